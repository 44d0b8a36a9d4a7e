"""Models of others, read from their own files."""
