"""A small Django REST framework shop whose audit trail otel-audit keeps."""
