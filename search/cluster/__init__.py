"""Where a search runs: connection, storage, data on nodes, what is checked before a start."""
