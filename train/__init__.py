"""Training: data, losses, configuration and the loop."""
