"""Labels of one's own from a few pictures of each: a picture is like the label whose pictures' features it is near to.

Features are centred on the mean of all labels and scaled to length 1; a label is the mean of its pictures. The scale of
the likeness, and the likeness below which a picture is none of them, are set by the examples: each is left out once.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imgtag_pipeline.errors import CallError, ConfigError
from imgtag_pipeline.model import Tag
from imgtag_pipeline.tagger.objects.tags import DIGITS, LEAST, seen
from imgtag_pipeline.tagger.oklab import Floats
from imgtag_pipeline.tagger.upright import upright_image

_SCALES: Final = (4.0, 6.0, 9.0, 13.0, 20.0)
_SCALE: Final = 9.0  # where no label has two pictures
_NONE: Final = 0.3  # likeness of a picture that is none of them, where no label has two pictures
_FEWEST_SEEN: Final = 384  # pixels of the short side, as the tagger's own pictures have
_lock = threading.Lock()
_learned: dict[str, Learned] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """The labels with the features that stand for each (labels, features)."""

    labels: tuple[str, ...]
    middle: Floats
    means: Floats
    scale: float
    none: float

    def tags(self, features: Floats) -> tuple[Tag, ...]:
        """The labels that the picture is like, the most like first; `confidence_raw` is the likeness, -1 to 1."""
        likeness = self.means @ _directions(features - self.middle)
        shares = _shares(likeness[None], self.scale, self.none)[0]
        prior = 1 / (len(self.labels) + 1)
        confidence = np.round((shares - prior) / (1 - prior), DIGITS)
        order = [int(at) for at in np.argsort(-confidence, kind="stable") if confidence[at] >= LEAST]
        return tuple(
            Tag(
                self.labels[at],
                confidence=float(confidence[at]),
                confidence_raw=round(float(likeness[at]), DIGITS),
            )
            for at in order
        )


def known(digest: str) -> Learned | None:
    """What was learned of these examples in this process."""
    return _learned.get(digest)


def learn(digest: str, pairs: Sequence[tuple[str, str]], files: Sequence[bytes | CallError], engine: str) -> Learned:
    """Learn the labels, once in a process.

    Parameters
    ----------
    digest : str
        Tells these examples from others.
    pairs : sequence of (reference, label)
        The examples.
    files : sequence of bytes or CallError
        What was read of each.
    engine : str
        Runs the network.

    Raises
    ------
    ConfigError
        For an example that cannot be read.
    """
    with _lock:
        if digest not in _learned:
            features = np.stack([_features(pair, file, engine) for pair, file in zip(pairs, files, strict=True)])
            _learned[digest] = of_features([label for _, label in pairs], features)
        return _learned[digest]


def _features(pair: tuple[str, str], file: bytes | CallError, engine: str) -> Floats:
    try:
        if isinstance(file, CallError):
            raise file
        return seen(upright_image(file, least=_FEWEST_SEEN), engine)[1]
    except CallError as error:
        raise ConfigError(f"an example of {pair[1]!r} cannot be used: {error}") from None


def of_features(labels: Sequence[str], features: Floats) -> Learned:
    """Learn from the features of the examples (examples, features) with the label of each."""
    names = tuple(dict.fromkeys(labels))
    owner = np.array([names.index(label) for label in labels])
    middle: Floats = np.stack([features[owner == at].mean(0) for at in range(len(names))]).mean(0)
    points = _directions(features - middle)
    sums = np.stack([points[owner == at].sum(0) for at in range(len(names))])
    counts = np.bincount(owner)
    judged = counts[owner] > 1
    scale, none = _SCALE, _NONE
    if judged.any():
        likeness = points @ _directions(sums).T
        for at in np.nonzero(judged)[0]:  # an example does not stand for itself
            likeness[at, owner[at]] = points[at] @ _directions(sums[owner[at]] - points[at])
        own = likeness[judged, owner[judged]]
        others = likeness[judged]
        others[np.arange(len(own)), owner[judged]] = np.nan
        none = float((np.median(own) + np.nanmean(np.nanmax(others, 1))) / 2)
        scale = max(_SCALES, key=lambda each: _fit(likeness[judged], owner[judged], each, none))
    return Learned(names, middle, _directions(sums), scale, none)


def _fit(likeness: Floats, owner: NDArray[np.intp], scale: float, none: float) -> float:
    shares = _shares(likeness, scale, none)[np.arange(len(owner)), owner]
    return float(np.log(np.maximum(shares, 1e-6)).mean())


def _shares(likeness: Floats, scale: float, none: float) -> NDArray[np.float64]:
    """The probability of each label, and of none of them, which is left out of the result."""
    powers = np.exp(scale * np.clip(likeness.astype(np.float64), -1, 1))
    shares: NDArray[np.float64] = powers / (powers.sum(1, keepdims=True) + np.exp(scale * none))
    return shares


def _directions(vectors: Floats) -> Floats:
    """The vectors at length 1."""
    scaled: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return scaled


def pairs_of(given: Any, read_text: Callable[[str], str]) -> tuple[tuple[str, str], ...]:
    """The examples as (reference, label): of a table with the columns url and label, of pairs, or of a CSV file.

    Raises
    ------
    ConfigError
        For anything else, and for fewer than two labels.
    """
    try:
        if isinstance(given, str):
            rows = list(csv.DictReader(read_text(given).splitlines()))
            pairs = [(row["url"], row["label"]) for row in rows]
        elif hasattr(given, "keys") or hasattr(given, "column_names") or hasattr(given, "columns"):
            pairs = list(zip(_listed(given["url"]), _listed(given["label"]), strict=True))
        else:
            pairs = [(url, label) for url, label in given]
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConfigError(
            "examples must be a table with the columns url and label, a list of such pairs, or a CSV file"
        ) from None
    texts = (str, PurePath)
    if not all(isinstance(url, texts) and isinstance(label, str) and label.strip() for url, label in pairs):
        raise ConfigError("examples has a row without a url or without a label; fill it in, or leave it out")
    found = tuple((str(url), label.strip()) for url, label in pairs)
    if len({label for _, label in found}) < 2:
        raise ConfigError(
            "examples needs two labels or more; add pictures of what is not meant, under a label of their own"
        )
    return found


def _listed(column: Any) -> list[Any]:
    return list(column.to_pylist() if hasattr(column, "to_pylist") else column)
