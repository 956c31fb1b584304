"""What the pipeline itself costs: overhead, reaction to an interruption, CPU and memory, without the work of models.

A whole system with scripted engines is started, and N callers talk to it in real time.
"""
