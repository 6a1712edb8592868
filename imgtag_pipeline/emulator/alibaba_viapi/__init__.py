"""The image recognition service."""
