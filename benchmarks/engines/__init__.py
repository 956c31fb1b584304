"""How fast each engine is by itself, on whatever device there is, and all three as one conversation needs them."""
