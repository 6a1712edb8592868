"""The token of Tencent's image services: HMAC-SHA1 over a text, both joined and in base64, bare in `Authorization`.

Docs: https://cloud.tencent.com/document/product/865/17723 (single-use tokens, `e=0`, are not for tagging).
"""

from __future__ import annotations

import binascii
import hmac
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from datetime import datetime

_DIGEST_BYTES = 20


@dataclass(frozen=True, slots=True)
class Token:
    """A received token: its fields by name, and the very bytes that were signed."""

    fields: dict[str, str]
    original: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    @property
    def app_id(self) -> str:
        """The app id, "" when the token has none."""
        return self.fields.get("a", "")

    @property
    def secret_id(self) -> str:
        """The id of the key that signed it."""
        return self.fields.get("k", "")

    @property
    def expires_at(self) -> int | None:
        """Seconds since 1970; 0 for single use, None when it is missing or not a number."""
        text = self.fields.get("e", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def original(*, app_id: str, secret_id: str, bucket: str, issued: int, expires: int, rand: int) -> str:
    """The text that is signed; nothing in it is escaped."""
    return f"a={app_id}&b={bucket}&k={secret_id}&e={expires}&t={issued}&r={rand}&f="


def token(text: str, secret_key: str) -> str:
    """The token over any such text."""
    signed = text.encode()
    return b64encode(hmac.digest(secret_key.encode(), signed, "sha1") + signed).decode()


def sign(
    *, app_id: str, secret_id: str, secret_key: str, bucket: str = "", now: datetime, rand: int, expires_in: int = 30
) -> str:
    """The value of the `Authorization` header, good for `expires_in` seconds from `now`."""
    issued = int(now.timestamp())
    text = original(
        app_id=app_id, secret_id=secret_id, bucket=bucket, issued=issued, expires=issued + expires_in, rand=rand
    )
    return token(text, secret_key)


def parse(received: str) -> Token | None:
    """The token's parts, None when it is not one; fields may come in any order and number."""
    try:
        raw = b64decode(received.strip(), validate=True)
        text = raw[_DIGEST_BYTES:].decode()
    except (binascii.Error, ValueError):
        return None
    if not text:
        return None
    fields = dict(pair.partition("=")[::2] for pair in text.split("&"))
    return Token(fields, raw[_DIGEST_BYTES:], raw[:_DIGEST_BYTES])


def verify(received: Token, secret_key: str) -> bool:
    """Whether the bytes as received were signed with this key; compared in constant time."""
    return hmac.compare_digest(hmac.digest(secret_key.encode(), received.original, "sha1"), received.digest)
