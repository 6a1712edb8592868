"""The bytes behind an image's reference: a path, file://, data:, http(s), any fsspec file system."""

from imgtag_pipeline.images.preview import check_before
from imgtag_pipeline.images.reader import ImageReader

__all__ = ["ImageReader", "check_before"]
