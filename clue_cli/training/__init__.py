"""`clue train`: from a mix and options to a training, a look at the data before it, and what is said of both."""
