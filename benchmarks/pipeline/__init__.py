"""The cost of the pipeline without models: latency overhead, reaction to an interruption, CPU and memory.

A whole system with scripted engines is started, and N callers talk to it in real time.
"""
