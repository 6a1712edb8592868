"""Request bodies that a vendor wants in a form of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def multipart(fields: Mapping[str, str], name: str, data: bytes) -> tuple[bytes, str]:
    """A multipart body with the file last, and its content type; the boundary comes from the data, so it is stable."""
    boundary = f"imgtag-{hashlib.sha256(data).hexdigest()[:32]}"
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        for field, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="image"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return b"".join((*parts, head.encode(), data, f"\r\n--{boundary}--\r\n".encode())), (
        f"multipart/form-data; boundary={boundary}"
    )
