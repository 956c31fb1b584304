"""The speed of each engine alone on this machine, and of all three together in a conversation."""
