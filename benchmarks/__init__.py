"""Benchmarks that a maintainer runs in a checkout: `python -m benchmarks`, or `parley bench`.

Results with machine, date and commit go to `results/`. All are compared in one way: `compare.py`.
"""
