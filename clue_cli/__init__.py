"""`clue`: what a person types, hands in and gets back."""
