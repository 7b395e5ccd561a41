"""Metrics, data layouts and runners of the standard benchmarks."""
