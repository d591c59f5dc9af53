"""What is searched. A STUDY file imports this and nothing else of `search`."""

from search.study.space import When
from search.study.study import Study

__all__ = ["Study", "When"]
