"""How long a trial may run: rungs, ASHA, and the searcher that Ray asks."""
