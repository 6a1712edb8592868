"""The bytes behind an image's reference: a path, file://, data:, http(s), any fsspec file system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgtag_pipeline.images.preview import check_before
from imgtag_pipeline.images.reader import ImageReader

if TYPE_CHECKING:
    from imgtag_pipeline.tagger.upright import upright_rgb

__all__ = ["ImageReader", "check_before", "upright_rgb"]


def __getattr__(name: str) -> Any:
    """The safe decoder, whose libraries are imported now."""
    if name == "upright_rgb":
        from imgtag_pipeline.tagger.upright import upright_rgb

        return upright_rgb
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
