"""What tests and benchmarks stand on: a whole system, a simulated broker, scripted servers, clients, models with random weights."""
