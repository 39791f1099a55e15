"""A decoder process that ends before it listens, like one of a broken installation."""

raise ImportError("No module named 'PIL'")
