"""How well turns are taken: scripted conversations (benchmarks/scenes) with each detector and each endpointing engine."""
