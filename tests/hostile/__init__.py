"""Hostile input as raw bytes, through real servers of a small site, beside the same site without the package."""
