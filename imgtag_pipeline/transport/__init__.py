"""HTTP in both directions: signed calls to a vendor, and downloads of images."""

from imgtag_pipeline.transport.http import Transport

__all__ = ["Transport"]
