"""The object storage and its two tagging operations."""
