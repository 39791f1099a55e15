"""CLUE: what is learned and measured. Imports nothing from `clue_cli`."""
