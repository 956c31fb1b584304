"""What measures Parley: callers in real time against a whole running system, results with machine and date."""
