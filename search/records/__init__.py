"""What happened: the ledger, and what is derived from it. Starts neither Ray nor Optuna."""
