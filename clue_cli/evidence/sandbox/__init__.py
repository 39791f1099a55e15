"""Child processes: hostile bytes are read there, so that what they do costs one item only."""
