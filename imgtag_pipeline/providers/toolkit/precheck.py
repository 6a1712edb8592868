"""Tells images that cannot succeed without a call: by the reference where only that is known, else by the header.

A header is read from the first bytes (no decoding, nothing is inflated); what it does not tell is not refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, urlsplit

from imgtag_pipeline.errors import PermanentError

# extension -> format, by the names that `tagger.sniff` gives to the same bytes.
EXTENSIONS: Final = {
    **dict.fromkeys(("jpg", "jpeg", "jpe", "jfif"), "JPEG"),
    **dict.fromkeys(("tif", "tiff"), "TIFF"),
    **dict.fromkeys(("heic", "heif", "hif", "heics", "heifs"), "HEIC"),
    **dict.fromkeys(("avif", "avifs"), "AVIF"),
    **dict.fromkeys(("ico", "cur"), "ICO"),
    **dict.fromkeys(("svg", "svgz"), "SVG"),
    **dict.fromkeys(("jp2", "j2k", "jpf", "jpx", "j2c", "jpc"), "JP2"),
    **{name: name.upper() for name in ("png", "bmp", "gif", "webp", "psd", "jxl", "eps")},
}
# Surely no images, whatever is in them.
NO_IMAGES: Final = frozenset(("pdf", "mp4", "mov", "avi", "mkv", "zip", "html", "htm"))
_READ_HERE: Final = 'with image_mode="auto" or "bytes" the image is read here'
_WEB: Final = ("http", "https")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a vendor accepts: all formats where none is named; None is no limit. Sides are in pixels, inclusive."""

    formats: tuple[str, ...]
    max_bytes: int | None = None
    min_side: int | None = None
    max_side: int | None = None
    max_pixels: int | None = None
    is_rgb: bool = False
    words: str = "any"

    def resolution(self) -> str:
        """The limits of the sides and of the pixels in words."""
        return self.words


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of an image say; a size is None where they do not."""

    format: str
    width: int | None = None
    height: int | None = None


def check_reference(url: str, limits: Limits, *, is_reached_from_here: bool = False) -> PermanentError | None:
    """Why a vendor cannot fetch this reference or will not take it, or None."""
    return check_fetched(url, is_reached_from_here=is_reached_from_here) or check_extension(url, limits)


def check_fetched(url: str, *, is_reached_from_here: bool = False) -> PermanentError | None:
    """Why a vendor cannot fetch this reference, or None. `is_reached_from_here` says that it is on this machine too."""
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname or ""
    except ValueError:
        return PermanentError("the URL cannot be read; give it as http(s)://host/path", code="InvalidUrl")
    if parts.scheme.lower() in _WEB and not host:
        return PermanentError("the URL names no host; give it as http(s)://host/path", code="InvalidUrl")
    if parts.scheme.lower() not in _WEB:
        kind = f"{parts.scheme}: references" if parts.scheme and len(parts.scheme) > 1 else "local paths"
        return PermanentError(
            f"the vendor cannot fetch {kind}, only http(s) URLs; {_READ_HERE}", code="UnsupportedScheme"
        )
    if not is_reached_from_here and is_private(host):
        return PermanentError(
            f"the vendor cannot reach this host, its address is not public; {_READ_HERE}", code="HostNotPublic"
        )
    return None


def check_extension(url: str, limits: Limits) -> PermanentError | None:
    """Why the extension shows that the image will be refused, or None. With a query the extension says nothing."""
    if "?" in url:
        return None
    return extension_of(url.partition("#")[0], limits)


def extension_of(path: str, limits: Limits) -> PermanentError | None:
    """The same for a plain path or the key of an object."""
    name, dot, extension = unquote(path.rsplit("/", 1)[-1]).rpartition(".")
    extension = extension.strip().lower() if dot and name else ""
    if extension in NO_IMAGES and limits.formats:
        return PermanentError(
            f"a .{extension} file is no image; allowed: {', '.join(limits.formats)}", code="NotAnImage"
        )
    kind = EXTENSIONS.get(extension)
    if kind is None or not limits.formats or kind in limits.formats:
        return None
    return _wrong_format(kind, limits)


@lru_cache(1024)
def is_private(host: str) -> bool:
    """Whether the host, as written, is this machine or an address that is not public. No name is looked up."""
    if host.lower().rstrip(".") == "localhost" or host.lower().endswith((".localhost", ".local", ".internal")):
        return True
    if not host[-1:].isdigit() and ":" not in host:
        return False  # a name, which is not looked up
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def check_bytes(data: bytes, limits: Limits, size: int | None = None) -> PermanentError | None:
    """Why the vendor would refuse these bytes, or None. Names the limit. `data` may be the first of `size` bytes."""
    size = len(data) if size is None else size
    if not size:
        return PermanentError("the image is empty (0 bytes)", code="EmptyFile")
    if limits.max_bytes is not None and size > limits.max_bytes:
        return PermanentError(f"the image has {size:,} bytes; allowed: {limits.max_bytes:,}", code="ImageTooLarge")
    header = sniff(data)
    if limits.formats and header is None:
        from imgtag_pipeline.tagger.sniff import looks_like, other_format

        kind = other_format(data)
        if kind is not None:
            return _wrong_format(kind, limits)
        return PermanentError(
            f"the bytes are {looks_like(data)}, not an image; allowed: {', '.join(limits.formats)}", code="NotAnImage"
        )
    if header is not None and limits.formats and header.format not in limits.formats:
        return _wrong_format(header.format, limits)
    if header is None or not limits.formats:
        return None
    return _check_size(header, limits) or (_check_channels(data, header.format) if limits.is_rgb else None)


def _wrong_format(kind: str, limits: Limits) -> PermanentError:
    return PermanentError(
        f"the image is {kind}; allowed: {', '.join(limits.formats)}; convert it first", code="UnsupportedFormat"
    )


def _check_size(header: Header, limits: Limits) -> PermanentError | None:
    if header.width is None or header.height is None:
        return None
    size = f"the image is {header.width:,} x {header.height:,} pixels"
    if limits.min_side is not None and min(header.width, header.height) < limits.min_side:
        return PermanentError(f"{size}; each side must have at least {limits.min_side:,}", code="TooFewPixels")
    if limits.max_side is not None and max(header.width, header.height) > limits.max_side:
        return PermanentError(f"{size}; each side may have at most {limits.max_side:,}", code="TooManyPixels")
    if limits.max_pixels is not None and header.width * header.height > limits.max_pixels:
        return PermanentError(f"{size}; allowed: {limits.max_pixels:,} in all", code="TooManyPixels")
    return None


def _check_channels(data: bytes, kind: str) -> PermanentError | None:
    """Colours that are not RGB, where the header tells: PNG by its colour type, JPEG by its components."""
    found = None
    if kind == "PNG" and len(data) > 25:
        found = {0: "grey", 3: "a palette", 4: "grey with transparency", 6: "RGB with transparency"}.get(data[25])
    elif kind == "JPEG":
        at = _jpeg_frame(data)
        found = None if at is None else {1: "grey", 4: "CMYK"}.get(data[at + 9])
    elif kind == "WEBP":
        is_transparent = (data[12:16] == b"VP8X" and data[20] & 0x10) or (data[12:16] == b"VP8L" and data[24] & 0x10)
        found = "RGB with transparency" if is_transparent else None
    if found is None:
        return None
    return PermanentError(f"the colours of the image are {found}; allowed: RGB alone, three channels", code="NotRGB")


# --- headers ----------------------------------------------------------------------------------------------------


def sniff(data: bytes) -> Header | None:
    """Format and size from the first bytes; None when the bytes are no format known here."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return Header("PNG", *_big(data, 16, 4)) if data[12:16] == b"IHDR" else Header("PNG")
    if data[:3] == b"\xff\xd8\xff":
        return Header("JPEG", *_jpeg_size(data))
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return Header("GIF", *_little(data, 6, 2))
    if data[:2] == b"BM" and len(data) >= 26:
        return Header("BMP", *_bmp_size(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Header("WEBP", *_webp_size(data))
    if data[:4] in (b"II*\x00", b"MM\x00*"):
        return Header("TIFF", *_tiff_size(data))
    return None


Size = tuple[int | None, int | None]
_UNKNOWN: Final[Size] = (None, None)
_MAX_SEGMENTS: Final = 2000
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _big(data: bytes, at: int, width: int) -> Size:
    return _pair(data, at, width, "big")


def _little(data: bytes, at: int, width: int) -> Size:
    return _pair(data, at, width, "little")


def _pair(data: bytes, at: int, width: int, order: str) -> Size:
    if len(data) < at + 2 * width:
        return _UNKNOWN
    read = int.from_bytes
    end = at + width
    if order == "big":
        return read(data[at:end], "big"), read(data[end : end + width], "big")
    return read(data[at:end], "little"), read(data[end : end + width], "little")


def _jpeg_size(data: bytes) -> Size:
    at = _jpeg_frame(data)
    if at is None:
        return _UNKNOWN
    height, width = _big(data, at + 5, 2)
    return width, height


def _jpeg_frame(data: bytes) -> int | None:
    """Where the first frame header is; segments before it are jumped over by their length."""
    at = 2
    for _ in range(_MAX_SEGMENTS):
        if at + 10 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in _FRAMES:
            return at
        if marker == 0xFF:
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return None


def _bmp_size(data: bytes) -> Size:
    if int.from_bytes(data[14:18], "little") == 12:
        return _little(data, 18, 2)
    width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
    return abs(width), abs(height)  # a negative height says: rows from the top


def _webp_size(data: bytes) -> Size:
    kind = data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and len(data) >= 30:
        width, height = _little(data, 26, 2)
        return (width or 0) & 0x3FFF, (height or 0) & 0x3FFF
    return _UNKNOWN


def _tiff_size(data: bytes) -> Size:
    """Width and height of the first directory, where that stands in the bytes at hand."""
    found = dict(_tiff_entries(data))
    return found.get(256), found.get(257)


def _tiff_entries(data: bytes) -> Iterator[tuple[int, int]]:
    def read(at: int, width: int) -> int:
        return int.from_bytes(data[at : at + width], "little" if data[:1] == b"I" else "big")

    start = read(4, 4)
    for at in range(start + 2, min(start + 2 + 12 * read(start, 2), len(data) - 11), 12):
        if read(at, 2) in (256, 257):
            yield read(at, 2), read(at + 8, 2 if read(at + 2, 2) == 3 else 4)
