"""Measuring from the command line: from a benchmark's name to figures, tables, plots and a page."""
