"""From the network's answer to tags: the words that it makes sure enough, each with the chance of guessing taken off.

The probability of a word is the sum over its classes. "animal" covers 398 of 1,000 classes, so a network that knows
nothing says animal with 0.398. That prior is taken off: confidence = (P - prior) / (1 - prior).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from imgtag_pipeline.model import Tag
from imgtag_pipeline.tagger.objects.engine import CLASSES, SEEN, runner
from imgtag_pipeline.tagger.objects.vocabulary import BROAD, EVERYDAY, Word, load_vocabulary
from imgtag_pipeline.tagger.oklab import Floats

LEAST: Final = 0.05  # less sure tags are not stored
DIGITS: Final = 3  # of what is stored; engines differ in the sixth
_ORDER: Final = {EVERYDAY: 0, None: 0, BROAD: 2}  # exact words stand between


class Learned(Protocol):
    """Labels that were learned of examples."""

    def tags(self, features: Floats) -> tuple[Tag, ...]:
        """Those that a picture with these features is like."""
        ...


@dataclass(frozen=True, slots=True)
class Objects:
    """Tells what a picture shows. `words` are of the caller's choice, and `learned` labels of examples; without either,
    the standard words.

    `engine` is "auto", "numpy" or "onnxruntime"; it changes no answer. With `features` one more tag, of the kind
    "features", carries the picture's vector.
    """

    language: str = "en"
    words: tuple[str, ...] = ()
    engine: str = "auto"
    learned: Learned | None = None
    features: bool = False

    def tags(self, upright: Any) -> tuple[Tag, ...]:
        """The tags of an upright RGB Pillow image: labels of examples, everyday words, exact ones, broad ones."""
        probabilities, features = seen(upright, self.engine)
        own = () if self.learned is None else self.learned.tags(features)
        words = self.tags_of(probabilities) if self.words or self.learned is None else ()
        carried = (Tag("", "features", extra={"features": encoded(features)}),) if self.features else ()
        return (*own, *words, *carried)

    def tags_of(self, probabilities: NDArray[np.float64]) -> tuple[Tag, ...]:
        """The tags of the network's probabilities."""
        words, classes, starts, priors = _words(self.words)
        raw = np.add.reduceat(probabilities[classes], starts)
        confidence = np.round((raw - priors) / (1 - priors), DIGITS)
        told = [int(at) for at in np.nonzero(confidence >= LEAST)[0]]
        told.sort(key=lambda at: (_ORDER.get(words[at].level, 1), -confidence[at], at))
        return tuple(self._tag(words[at], float(confidence[at]), round(float(raw[at]), DIGITS)) for at in told)

    def _tag(self, word: Word, confidence: float, raw: float) -> Tag:
        name, language = word.said(self.language)
        parent = word.parent and _by_name()[word.parent].said(self.language)[0]
        return Tag(
            name,
            confidence=confidence,
            confidence_raw=raw,
            level=word.level,
            parent=parent,
            tag_id=word.id,
            language=language,
        )


def encoded(features: Floats) -> str:
    """A vector as the text that is stored: half floats in base64."""
    return base64.b64encode(features.astype("<f2").tobytes()).decode().rstrip("=")


def seen(upright: Any, engine: str = "auto") -> tuple[NDArray[np.float64], Floats]:
    """The probabilities of the classes, and the features, of an upright RGB Pillow image."""
    logits, features = runner(engine)(SEEN.numbers(upright))
    shifted = np.exp(logits.astype(np.float64) - float(logits.max()))
    return shifted / shifted.sum(), features


@cache
def _words(own: tuple[str, ...]) -> tuple[Sequence[Word], NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """The words, the classes of all of them in a row, where each word's begin, and its prior."""
    vocabulary = load_vocabulary()
    words = vocabulary.own(own) if own else vocabulary.standard()
    counts = np.array([len(word.classes) for word in words])
    classes = np.array([index for word in words for index in word.classes])
    return words, classes, np.cumsum(counts) - counts, counts / CLASSES


@cache
def _by_name() -> dict[str, Word]:
    return {word.name: word for word in load_vocabulary().words}
