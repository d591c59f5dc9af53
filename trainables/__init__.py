"""What one trial does: configuration, data, model, training loop. Runs with or without Ray."""
