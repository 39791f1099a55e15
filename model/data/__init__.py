"""Data to learn from: photos, forgeries made from them, and the histories pictures go through."""
