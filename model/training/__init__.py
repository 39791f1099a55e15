"""The training loop: options, feed, schedule, state, validation, log."""
