"""Where `When` was before `search.study`: kept for study files of one's own."""

from search.study.space import When

__all__ = ["When"]
