"""Benchmarks: `python -m bot bench …`. Figures only compare within one run on one machine."""
