"""Benchmarks: every figure in the documents is printed by `make bench`."""
