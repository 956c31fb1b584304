"""The real stages in virtual time: the broker is in memory, and time stands still while a model computes."""
