"""What tells one teller of objects from another, and its choices; light, so that naming a provider loads no network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final

from imgtag_pipeline.errors import ConfigError

VERSION: Final = 2  # goes up with every change of what the same picture is told to show
SHA256: Final = "db3b6b7bc177593d4e53bea55e6b0f3d9ff1afad8146c0dd1b753b9bd1026f6f"
FEATURES: Final = 1280
LANGUAGES: Final = ("en", "zh")
ENGINES: Final = ("auto", "numpy", "onnxruntime")


def identity(language: str, words: Sequence[str], *, features: bool) -> dict[str, Any]:
    """The JSON-ready options that change answers; the engine is none of them."""
    facts: dict[str, Any] = {"objects": f"{VERSION}-{SHA256[:12]}"}
    if features:
        facts["features"] = True
    if language != "en":
        facts["language"] = language
    if words:
        facts["words"] = sorted({word.strip().lower() for word in words})
    return facts


def has_onnxruntime() -> bool:
    """Whether the package onnxruntime is installed."""
    return find_spec("onnxruntime") is not None


def resolved(engine: str) -> str:
    """The engine that "auto" means here; raises `ConfigError` for one that is not installed."""
    if engine == "auto":
        return "onnxruntime" if has_onnxruntime() else "numpy"
    if engine == "onnxruntime" and not has_onnxruntime():
        raise ConfigError("engine is 'onnxruntime', which is not installed: pip install 'imgtag_pipeline[onnx]'")
    return engine
