"""A search that runs: Ray Tune, the recorder, and what watches it."""
