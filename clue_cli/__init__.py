"""`clue`: what a person types, hands in and gets back."""

__version__ = "0.1.0"
