"""Quality of turn-taking: scripted conversations (benchmarks/scenes) with each detector and each endpointing engine."""
