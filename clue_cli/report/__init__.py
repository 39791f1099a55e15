"""The page a person can show to somebody else."""
