"""`local`: tags from the pixels, on this machine; no account, no cost, no network but for reading the image.

Docs: `imgtag_pipeline.tagger`, whose tables hold all thresholds. Limits: 64 MiB, 100 million pixels and 60 s a picture,
all settable. Confidence: of an object, the network's probability with the chance of guessing taken off; of a colour,
how far its pixels lie from the border to another name; of a fact, how far its measure lies beyond the threshold. For
colours and facts 0.5 is the border, 1 is sure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from imgtag_pipeline.errors import ConfigError, PermanentError
from imgtag_pipeline.model import (
    Answer,
    Compute,
    Exchange,
    Facts,
    Image,
    Job,
    Step,
    read,
    read_all,
)
from imgtag_pipeline.providers.toolkit.options import one_of
from imgtag_pipeline.tagger import FORMATS, MAX_PIXELS, VERSION, describe
from imgtag_pipeline.tagger.decode import format_problem
from imgtag_pipeline.tagger.memory import MAX_DECODE_BYTES
from imgtag_pipeline.tagger.objects.identity import ENGINES, FEATURES, LANGUAGES, SHA256, identity, resolved
from imgtag_pipeline.urls import image_key

if TYPE_CHECKING:
    from imgtag_pipeline.tagger.objects.examples import Learned
    from imgtag_pipeline.tagger.objects.tags import Objects
    from imgtag_pipeline.tagger.objects.vocabulary import Vocabulary

FACTS: Final = Facts(
    title="Objects, colours, shape, tone and sharpness, from the pixels, on this machine",
    docs="README.md, section Providers",
    image_as=("bytes",),
    confidence="0..1: of an object, its probability less the chance of guessing; of others, 0.5 on the border",
    languages=LANGUAGES,
    formats=FORMATS,
    max_bytes=64 << 20,
    resolution="up to 100 million pixels",
    qps="no limit",
    price="free",
)
_SECONDS_AN_EXAMPLE: Final = 1.0  # at most, on a busy machine
_SECONDS_OF_FACTS: Final = 0.015  # of a photograph of about a megapixel, on one core


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """The embedded default: objects, colours and facts from the pixels.

    Parameters
    ----------
    objects : bool, default True
        Tell objects too. False: colours and facts only, at a quarter of the work.
    language : {"en", "zh"}, default "en"
        Of objects. Words that have no Chinese stay English; the tag's `language` says which.
    words : str or list of str, optional
        Tell these objects instead of the standard ones, "canine, mug": English nouns of the lexicon.
    examples : table, list of pairs or str, optional
        Labels of your own instead: a table with the columns url and label, (url, label) pairs, or a CSV file. Five
        pictures a label are enough; they are read before the first picture, once in a process. With `words` both.
    features : bool, default False
        Add the column `features`, 1,280 numbers that are alike for pictures that are alike, to a nested or long table
        (there in the first row of each image): for duplicates and search.
    color_count : int, default 3
        The most colours per picture, 1 to 10.
    max_bytes, max_pixels : int
        Larger pictures are failed rows.
    max_decode_bytes : int, default 512 MiB
        Memory that decoding may take, of all threads together; a picture that takes more is a failed row.
    timeout : float, default 60
        Seconds that reading a picture may take, and again tagging it.
    engine : {"auto", "numpy", "onnxruntime"}, default "auto"
        What runs the network: onnxruntime where it is installed. The answers are the same.
    threads : int, optional
        Pictures that are tagged at a time. Default: the cores that this process may use.

    Raises
    ------
    ConfigError
        For a value that is not allowed, or a word that the lexicon does not hold.

    Examples
    --------
    >>> imgtag.label(df, provider=Local(words="canine, mug"), min_confidence=0.5)
    """

    objects: bool = True
    language: str = "en"
    words: str | Sequence[str] = ()
    examples: Any = ()
    features: bool = False
    color_count: int = 3
    max_bytes: int = 64 << 20
    max_pixels: int = MAX_PIXELS
    max_decode_bytes: int = MAX_DECODE_BYTES
    timeout: float = 60.0
    engine: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        _check("color_count", self.color_count, 1, 10)
        _check("max_bytes", self.max_bytes, 1, 1 << 30)
        _check("max_pixels", self.max_pixels, 1, 1_000_000_000)
        _check("max_decode_bytes", self.max_decode_bytes, 1 << 20, 1 << 40)
        _check("timeout", self.timeout, 0.001, 3600, whole=False)
        if self.threads is not None:
            _check("threads", self.threads, 1, 1024)
        if not isinstance(self.objects, bool):
            raise ConfigError(f"objects is {self.objects!r}; allowed: True or False")
        one_of("language", self.language, LANGUAGES)
        one_of("engine", self.engine, ENGINES)
        resolved(self.engine)
        given = self.words.split(",") if isinstance(self.words, str) else self.words
        object.__setattr__(self, "words", tuple(word.strip() for word in given if word.strip()))
        if self.words:
            _vocabulary().own(self.words)
        object.__setattr__(self, "examples", _pairs(self.examples) if _is_given(self.examples) else ())
        if not isinstance(self.features, bool):
            raise ConfigError(f"features is {self.features!r}; allowed: True or False")
        if not self.objects and (self.words or self.examples or self.features or self.language != "en"):
            raise ConfigError(
                "words, examples, features and language are about objects, and objects is False; leave them out"
            )

    @property
    def address(self) -> str:
        """Always "local"."""
        return "local"

    @property
    def facts(self) -> Facts:
        """For people: formats, limits, scale."""
        return FACTS

    @property
    def batch_size(self) -> int:
        """One picture at a time."""
        return 1

    @property
    def concurrency(self) -> int:
        """Enough to read some pictures while others are tagged."""
        return 8

    def identity(self) -> Mapping[str, Any]:
        """The number of colours, the tagger's version and the network's: a better tagger asks again."""
        facts = {"provider": "local", "color_count": self.color_count, "tagger": VERSION}
        if not self.objects:
            return facts
        examples = {"examples": self._digest()} if self.examples else {}
        return facts | identity(self.language, tuple(self.words), features=self.features) | examples

    def _objects(self, learned: Learned | None) -> Objects:
        from imgtag_pipeline.tagger.objects.tags import Objects

        return Objects(self.language, tuple(self.words), self.engine, learned, self.features)

    def _digest(self) -> str:
        """Tells these examples from others: each by its label and its key, a file's with size and time of change."""
        named = sorted(f"{label}\t{self.key(url)}" for url, label in self.examples)
        return hashlib.sha256("\n".join(named).encode()).hexdigest()[:16]

    @property
    def features_size(self) -> int | None:
        """1,280 where features were asked for."""
        return FEATURES if self.features else None

    def key(self, url: str) -> str:
        """The reference in its normal spelling, without its signature; a file by its path, size and time of change."""
        return image_key(url)

    def reads(self, url: str) -> bool:
        """Every picture is read here."""
        return True

    def check_head(self, head: bytes, size: int) -> PermanentError | None:
        """Why a picture of that size that begins like this is refused."""
        if size > self.max_bytes:
            return PermanentError(f"the picture has {size:,} bytes; allowed: {self.max_bytes:,}", code="ImageTooLarge")
        return format_problem(head)

    def seconds_an_image(self) -> float:
        """Decoding, colours and facts of a photograph, and the network as it runs here."""
        from imgtag_pipeline.tagger.objects.engine import seconds_of_network

        return _SECONDS_OF_FACTS + (seconds_of_network(self.engine) if self.objects else 0.0)

    def described(self) -> Sequence[tuple[str, str]]:
        """The network, its engine and its words."""
        if not self.objects:
            return [("model", "none: colours and facts only (objects is False)")]
        known = _vocabulary()
        standard = f"{len(known.classes):,} and {len(known.words)} above them"
        words = f"{len(self.words)} of your own" if self.words else standard
        return [
            ("model", f"EfficientNet-Lite0 in the package, {SHA256[:12]}, run by {resolved(self.engine)}"),
            ("words", f"{words}; the lexicon for words= has {len(known.lexicon):,}"),
        ]

    def exchange(self, images: Sequence[Image], jobs: Mapping[str, Job]) -> Exchange:
        """Read the picture, tag it in a worker thread."""
        learned = (yield from self._learned()) if self.examples else None
        answers = []
        for image in images:
            data = yield from read(image, max_bytes=self.max_bytes, timeout=self.timeout)
            work = partial(
                describe,
                data,
                color_count=self.color_count,
                max_pixels=self.max_pixels,
                max_decode_bytes=self.max_decode_bytes,
                objects=self._objects(learned) if self.objects else None,
            )
            tags = yield Compute(work, self.timeout)
            answers.append(Answer(tags))
        return tuple(answers)

    def _learned(self) -> Generator[Step, Any, Learned]:
        """What the examples say, from this process's memory or from their pictures."""
        from imgtag_pipeline.tagger.objects.examples import known, learn

        digest = self._digest()
        found = known(digest)
        if found is None:
            pictures = [Image(self.key(url), url) for url, _ in self.examples]
            files = yield from read_all(pictures, max_bytes=self.max_bytes, timeout=self.timeout)
            seconds = self.timeout + _SECONDS_AN_EXAMPLE * len(files)
            found = yield Compute(partial(learn, digest, self.examples, files, self.engine), seconds)
        learned: Learned = found
        return learned


def _check(name: str, value: object, low: float, high: float, *, whole: bool = True) -> None:
    kind = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        noun = "a whole number" if whole else "a number"
        raise ConfigError(f"{name} is {value!r}; allowed: {noun} from {low:,} to {high:,}")


def _is_given(examples: Any) -> bool:
    return examples is not None and not (isinstance(examples, str | tuple | list) and not examples)


def _pairs(examples: Any) -> tuple[tuple[str, str], ...]:
    from imgtag_pipeline.tagger.objects.examples import pairs_of

    return pairs_of(examples, _read_text)


def _vocabulary() -> Vocabulary:
    from imgtag_pipeline.tagger.objects.vocabulary import load_vocabulary

    return load_vocabulary()


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"examples is {path!r}, which cannot be read as a CSV file ({error})") from None
