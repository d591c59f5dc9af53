"""From Kaggle's download to folders and packed arrays. Knows nothing of models or Ray."""
