"""Threads joined by bounded channels: what every run that reads, predicts and writes at once is built of."""
