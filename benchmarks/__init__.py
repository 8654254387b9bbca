"""What auditing costs: ``python -m benchmarks``."""
