"""Image tags beside a column of image URLs."""
