"""`clue explain`: a language model of the user's writes about records, and what it writes is checked."""
