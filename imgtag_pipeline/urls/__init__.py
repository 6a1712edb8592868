"""Image references as text: the image's key, its URL as it is sent, and the redaction of everything we print."""

from imgtag_pipeline.urls.keys import file_changed_at, image_key, local_path_of, oss_object_key
from imgtag_pipeline.urls.redaction import redact
from imgtag_pipeline.urls.signatures import SIGNATURE_SCHEMES, is_signed, unsigned_url
from imgtag_pipeline.urls.syntax import ascii_url, escaped_url, normal_url

__all__ = [
    "SIGNATURE_SCHEMES",
    "ascii_url",
    "escaped_url",
    "file_changed_at",
    "image_key",
    "is_signed",
    "local_path_of",
    "normal_url",
    "oss_object_key",
    "redact",
    "unsigned_url",
]
