"""`clue train`: the training run, the dry run, and the error messages of both."""
