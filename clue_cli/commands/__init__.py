"""One module per command: options → one call → exit code."""
