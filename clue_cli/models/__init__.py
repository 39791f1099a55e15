"""Base weights of others: where a person has them, what they are, under which licence."""
