"""What an audited request costs: ``python -m benchmarks``."""
