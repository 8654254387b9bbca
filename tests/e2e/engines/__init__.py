"""Real programs at the far end of our protocols: built once into a cache, run for one test."""
