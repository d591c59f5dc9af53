"""Bytes from nowhere into what reads files: `python -m tests.fuzz TARGET --seconds N`."""
