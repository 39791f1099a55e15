"""Tests of `clue_cli.custody`."""
