"""`clue forge`: from a folder of photos to forged and authentic pictures with masks and a log of what was done."""
