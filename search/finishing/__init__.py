"""After the search: retrain, predict, submission."""
