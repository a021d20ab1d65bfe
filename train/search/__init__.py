"""The search for backward connections: the space, the scores, the supernet, the evolution and the confirmation."""
