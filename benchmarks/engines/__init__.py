"""How fast each engine is by itself, on the device of this machine, and the chain of all three that a conversation needs."""
