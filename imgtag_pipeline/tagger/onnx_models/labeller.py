"""From image files to tags by one ONNX model: decoded, prepared, run in a batch, each picture answered on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imgtag_pipeline.errors import CallError, PermanentError
from imgtag_pipeline.model import Tag
from imgtag_pipeline.tagger.crops import Preprocessing
from imgtag_pipeline.tagger.objects.tags import encoded
from imgtag_pipeline.tagger.onnx_models.session import Layout, Session
from imgtag_pipeline.tagger.upright import upright_image

DIGITS: Final = 4
Activation = Literal["softmax", "sigmoid", "none"]


@dataclass(frozen=True, slots=True)
class Label:
    """What one value of the model stands for."""

    name: str
    parent: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Labeller:
    """A model with everything that changes its answers. `least`: less sure tags are not told.

    `features` is the output that is carried by a tag of the kind "features", where one is wanted.
    """

    session: Session
    output: str
    labels: tuple[Label, ...]
    preprocessing: Preprocessing
    layout: Layout
    activation: Activation
    least: float
    seconds: float
    features: str | None = None
    features_size: int | None = None

    def tags(
        self, files: Sequence[bytes | CallError], *, max_pixels: int, max_decode_bytes: int
    ) -> list[tuple[Tag, ...] | CallError]:
        """For each file its tags, surest first, or why it has none; an error that is handed in is handed back."""
        found: list[tuple[Tag, ...] | CallError | None] = []
        pictures: list[NDArray[Any]] = []
        for file in files:
            if isinstance(file, CallError):
                found.append(file)
                continue
            try:
                pictures.append(self._picture(file, max_pixels, max_decode_bytes))
                found.append(None)
            except PermanentError as error:
                found.append(error)
        rows = iter(self._rows(pictures) if pictures else ())
        return [next(rows) if one is None else one for one in found]

    def _rows(self, pictures: Sequence[NDArray[Any]]) -> list[tuple[Tag, ...]]:
        outputs = [self.output] if self.features is None else [self.output, self.features]
        values, *vectors = self.session.values(outputs, np.stack(pictures), self.layout)
        told = [self._told(row) for row in values]
        if not vectors:
            return told
        carried = [Tag("", "features", extra={"features": encoded(vector)}) for vector in vectors[0].astype(np.float32)]
        return [(*tags, tag) for tags, tag in zip(told, carried, strict=True)]

    def _picture(self, file: bytes, max_pixels: int, max_decode_bytes: int) -> NDArray[Any]:
        upright = upright_image(
            file, least=self.preprocessing.least, max_pixels=max_pixels, max_decode_bytes=max_decode_bytes
        )
        is_raw = self.session.kind == np.uint8
        return self.preprocessing.pixels(upright) if is_raw else self.preprocessing.numbers(upright)

    def _told(self, values: NDArray[np.float64]) -> tuple[Tag, ...]:
        confidence = _activated(values, self.activation)
        told = [int(at) for at in np.nonzero(np.round(confidence, DIGITS) >= self.least)[0]]
        told.sort(key=lambda at: (-confidence[at], at))
        return tuple(
            Tag(
                self.labels[at].name,
                confidence=round(min(float(confidence[at]), 1.0), DIGITS),
                confidence_raw=round(float(values[at]), DIGITS),
                parent=self.labels[at].parent,
                tag_id=self.labels[at].id,
            )
            for at in told
        )


def _activated(values: NDArray[np.float64], activation: Activation) -> NDArray[np.float64]:
    if activation == "softmax":
        powers = np.exp(values - values.max())
        shares: NDArray[np.float64] = powers / powers.sum()
        return shares
    if activation == "sigmoid":
        odds: NDArray[np.float64] = 1 / (1 + np.exp(-np.clip(values, -60, 60)))
        return odds
    return values
