"""From a person's own photos to a threshold with a promise."""
