"""What the first bytes say a file is: an image format that is read here, or what it is instead, in words."""

from __future__ import annotations

from typing import Final

# Read here, by Pillow's name. Formats without a signature (TGA) and those that run programs (EPS) are left out.
FORMATS: Final = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000")

_SIGNATURES: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
)
_AVIF_BRANDS: Final = (b"avif", b"avis")
_HEIF_BRANDS: Final = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

# Images, but none that Pillow alone can read.
_UNREADABLE: Final[tuple[tuple[bytes, str], ...]] = (
    (b"\x00\x00\x01\x00", "ICO"),
    (b"\x00\x00\x02\x00", "ICO"),
    (b"8BPS", "PSD"),
    (b"%!PS", "EPS"),
    (b"\xc5\xd0\xd3\xc6", "EPS"),
    (b"\xff\x0a", "JXL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JXL"),
)
_IN_WORDS: Final = {
    "ICO": "an icon file (ICO)",
    "PSD": "a Photoshop document",
    "EPS": "PostScript",
    "JXL": "a JPEG XL image",
    "HEIC": "a HEIC image",
    "SVG": "an SVG drawing",
}
# Read here, but by no vendor: by their usual names.
_HERE_ONLY: Final = {"AVIF": "AVIF", "JPEG2000": "JP2"}
_OTHER: Final[tuple[tuple[bytes, str], ...]] = (
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a ZIP archive or an Office document"),
    (b"\x1f\x8b", "gzip-compressed data"),
    (b"PAR1", "a Parquet file"),
    (b"\x1aE\xdf\xa3", "a video"),
    (b"RIFF", "audio or video"),
    (b"ID3", "audio"),
)


def image_format(data: bytes) -> str | None:
    """The format's name among `FORMATS`, or None for anything else."""
    for signature, name in _SIGNATURES:
        if data.startswith(signature):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and _brands(data).intersection(_AVIF_BRANDS):
        return "AVIF"
    return None


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of a WebP's canvas, from its first chunk; (0, 0) where it is torn off."""
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        return 0, 0
    if kind == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF


def unreadable_image(data: bytes) -> str | None:
    """What kind of image it is, in words, where it is one of a format that is not read here."""
    name = _unreadable(data)
    return None if name is None else _IN_WORDS[name]


def other_format(data: bytes) -> str | None:
    """The short name ("HEIC", "SVG") of an image format that no vendor takes; None for any other bytes."""
    if data[:4] in (b"II+\x00", b"MM\x00+"):
        return "BigTIFF"
    return _unreadable(data) or _HERE_ONLY.get(image_format(data) or "")


def _unreadable(data: bytes) -> str | None:
    for signature, name in _UNREADABLE:
        if data.startswith(signature):
            return name
    if data[4:8] == b"ftyp" and _brands(data).intersection(_HEIF_BRANDS):
        return None if image_format(data) == "AVIF" else "HEIC"
    text = _text_start(data)
    return "SVG" if b"<svg" in text and not text.startswith((b"<!doctype html", b"<html")) else None


def looks_like(data: bytes) -> str:
    """What a file that is no image seems to be, for a message: "HTML", "JSON", "a PDF document", "unknown data"."""
    for signature, name in _OTHER:
        if data.startswith(signature):
            return name
    if data[4:8] == b"ftyp":
        return "a video"
    text = _text_start(data)
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")) or b"<html" in text:
        return "HTML"
    if text.startswith(b"<"):
        return "XML"
    if text.startswith((b"{", b"[")):
        return "JSON"
    if not text:
        return "nothing but blanks"
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" or byte >= 128 for byte in text)
    return "plain text" if printable == len(text) else "unknown data"


def _brands(data: bytes) -> set[bytes]:
    """The major and compatible brands of an ISO media file."""
    size = min(int.from_bytes(data[:4], "big"), 256, len(data))
    return {data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4))}


def _text_start(data: bytes) -> bytes:
    head = data[:1024].removeprefix(b"\xef\xbb\xbf")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head[2:].replace(b"\x00", b"")
    return head.lstrip().lower()
