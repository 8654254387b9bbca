"""Views for a site's own URLs."""
