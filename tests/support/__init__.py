"""Support for tests and benchmarks: a whole system, a simulated broker, scripted servers, clients, models with random weights."""
