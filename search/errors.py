"""The error of a wrong argument, importable without anything else."""


class UsageError(ValueError):
    """A wrong argument: exit code 2."""
