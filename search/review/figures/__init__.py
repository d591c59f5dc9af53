"""The figures of a search, one kind a file."""
