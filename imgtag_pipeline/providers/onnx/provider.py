"""`onnx`: labels from any ONNX image classifier or tagger, on this machine; needs onnxruntime (`[onnx]`).

Docs: README.md, section "A model of your own". Limits: one input with three channels, batches and sides that are fixed
or free, float, half, double or uint8. Confidence: the model's probability.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from imgtag_pipeline.core.filesystems import path_text
from imgtag_pipeline.errors import CallError, ConfigError, PermanentError, TransientError
from imgtag_pipeline.model import Answer, Compute, Exchange, Facts, Image, Job, Result, Tag, read_all
from imgtag_pipeline.providers.onnx.files import ModelFiles
from imgtag_pipeline.providers.onnx.loading import Loaded, load
from imgtag_pipeline.providers.toolkit.options import between, one_of
from imgtag_pipeline.tagger import FORMATS, MAX_PIXELS
from imgtag_pipeline.tagger.crops import FITS, RESAMPLINGS
from imgtag_pipeline.tagger.decode import format_problem
from imgtag_pipeline.tagger.memory import MAX_DECODE_BYTES
from imgtag_pipeline.urls import image_key

FACTS: Final = Facts(
    title="Labels of an ONNX model of your own, on this machine",
    docs="README.md, section A model of your own",
    image_as=("bytes",),
    confidence="0..1: the model's probability",
    languages=(),
    formats=FORMATS,
    max_bytes=64 << 20,
    resolution="up to 100 million pixels",
    qps="no limit",
    price="free",
)
_SETTINGS: Final = (
    "labels",
    "size",
    "framing",
    "crop",
    "resample",
    "mean",
    "scale",
    "channels",
    "layout",
    "activation",
)
_MOST_LOADED: Final = 4
_lock = threading.Lock()
_loaded: dict[tuple[Any, ...], Loaded] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Onnx:
    """An ONNX model as a provider. What its files say need not be given; what is given has precedence.

    Parameters
    ----------
    model : str or path
        The ONNX file: a path or any fsspec URL.
    labels : str or list of str, optional
        A file with one label a line (or .json, or WD14's .csv), or the labels themselves.
    size : int or (int, int), optional
        Side, or height and width, of the input where the model leaves it free. Default: 224.
    framing : {"crop", "squash", "pad"}, optional
        The middle of the picture, all of it in another shape, or all of it on a white square.
    crop : float, optional
        With framing "crop": the share of the short side that is seen. Default: 1.
    resample : str, optional
        nearest, bilinear, bicubic, lanczos, box or hamming.
    mean, scale : float or three floats, optional
        A pixel of 0 to 255 becomes (value - mean) / scale. Not applied where the model takes uint8.
    channels : {"RGB", "BGR"}, optional
        Their order.
    layout : {"NCHW", "NHWC"}, optional
        Where the input's shape does not tell it.
    activation : {"softmax", "sigmoid", "none"}, optional
        Makes probabilities of the model's values. Default: "none" where the model ends with one, else softmax.
    output : str, optional
        The output with one value for each label, where there are several.
    features : str, optional
        An output of the model that becomes the column `features` of a nested or long table.
    least : float, default 0.05
        Less sure tags are not stored.
    batch : int, default 8
        Pictures a run of the model; one with a fixed batch is given its own number. Changes no answer.
    threads : int, optional
        Computations at a time. Default: the cores that this process may use.
    max_bytes, max_pixels, max_decode_bytes : int
        Larger pictures are failed rows.
    timeout : float, default 60
        Seconds that reading a picture may take, and again computing its tags.

    Raises
    ------
    ConfigError
        For a value that is not allowed; when it is used, for a model that cannot be.

    Examples
    --------
    >>> imgtag.label(df, provider=Onnx(model="tagger.onnx"), min_confidence=0.5)
    """

    model: str
    labels: str | Sequence[str] | None = None
    size: int | tuple[int, int] | None = None
    framing: str | None = None
    crop: float | None = None
    resample: str | None = None
    mean: float | tuple[float, float, float] | None = None
    scale: float | tuple[float, float, float] | None = None
    channels: str | None = None
    layout: str | None = None
    activation: str | None = None
    output: str | None = None
    features: str | None = None
    least: float = 0.05
    batch: int = 8
    threads: int | None = None
    max_bytes: int = 64 << 20
    max_pixels: int = MAX_PIXELS
    max_decode_bytes: int = MAX_DECODE_BYTES
    timeout: float = 60.0

    hints: ClassVar[Mapping[str, str]] = {"model": "the path or URL of an ONNX file, for example model=tagger.onnx"}

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", path_text(self.model))
        if not isinstance(self.labels, str | None):
            object.__setattr__(self, "labels", tuple(self.labels))
        for name, allowed in (
            ("framing", FITS),
            ("resample", RESAMPLINGS),
            ("channels", ("RGB", "BGR")),
            ("layout", ("NCHW", "NHWC")),
            ("activation", ("softmax", "sigmoid", "none")),
        ):
            if getattr(self, name) is not None:
                one_of(name, getattr(self, name), allowed)
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, most in (("size", 4096), ("mean", None), ("scale", None)):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, value := tuple(value))
            for each in value if isinstance(value, tuple) else () if value is None else (value,):
                between(name, each, *((1, most) if most else (-1e6, 1e6)), is_whole=bool(most))
            if isinstance(value, tuple) and len(value) != (2 if most else 3):
                raise ConfigError(f"{name} is {value!r}; allowed: one number, or {2 if most else 3} of them")
        if self.scale is not None and 0 in (self.scale if isinstance(self.scale, tuple) else (self.scale,)):
            raise ConfigError(f"scale is {self.scale!r}; allowed: numbers other than 0")
        if self.crop is not None:
            between("crop", self.crop, 0.05, 1)
        between("least", self.least, 0, 1)
        between("batch", self.batch, 1, 1024, is_whole=True)
        if self.threads is not None:
            between("threads", self.threads, 1, 1024, is_whole=True)
        between("max_bytes", self.max_bytes, 1, 1 << 30, is_whole=True)
        between("max_pixels", self.max_pixels, 1, 1_000_000_000, is_whole=True)
        between("max_decode_bytes", self.max_decode_bytes, 1 << 20, 1 << 40, is_whole=True)
        between("timeout", self.timeout, 0.001, 3600)

    @staticmethod
    def facts_of(address: str) -> Facts:
        """The facts, without a model."""
        return FACTS

    @property
    def address(self) -> str:
        """Always "onnx"."""
        return "onnx"

    @property
    def facts(self) -> Facts:
        """For people: formats, limits, scale."""
        return FACTS

    @property
    def batch_size(self) -> int:
        """The pictures that are run together."""
        return self.batch

    @property
    def concurrency(self) -> int:
        """Enough to read some batches while others are computed."""
        return 8

    def loaded(self) -> Loaded:
        """The model, loaded once and again when its file has changed; raises `ConfigError` where it cannot be used."""
        options = {name: getattr(self, name) for name in (*_SETTINGS, "output", "features")}
        key = (self.model, ModelFiles(self.model).version(), *options.values(), self.least)
        with _lock:
            if key not in _loaded:
                while len(_loaded) >= _MOST_LOADED:
                    del _loaded[next(iter(_loaded))]
                _loaded[key] = load(self.model, options, least=self.least)
            return _loaded[key]

    def prepare(self) -> None:
        """Load the model before the first picture."""
        self.loaded()

    def refresh(self) -> bool:
        """There are no keys."""
        return False

    def identity(self) -> Mapping[str, Any]:
        """Hashes of the model and its labels, and what changes answers; not batch, threads or engine."""
        found = self.loaded()
        return {"provider": "onnx", "model": found.model_hash, "labels": found.labels_hash, **found.settings}

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

    @property
    def features_size(self) -> int | None:
        """How many numbers the model's vector has, where one was asked for."""
        return None if self.features is None else self.loaded().labeller.features_size

    def seconds_an_image(self) -> float:
        """As long as the model took for a noisy picture, and a little for decoding."""
        return self.loaded().labeller.seconds + _SECONDS_OF_DECODING

    def described(self) -> Sequence[tuple[str, str]]:
        """The model, what it wants to see, and its labels."""
        found = self.loaded()
        labeller, seen = found.labeller, found.labeller.preprocessing
        first = ", ".join(label.name for label in labeller.labels[:5])
        more = ", ..." if len(labeller.labels) > 5 else ""
        batch = labeller.session.batch
        return [
            ("model", f"{labeller.session.name}, {found.model_hash}"),
            (
                "input",
                f"{seen.width}x{seen.height} {seen.channels}, {labeller.layout}, {labeller.session.kind}, {seen.fit}",
            ),
            ("batch", "free" if batch is None else f"fixed at {batch}"),
            ("labels", f"{len(labeller.labels):,}: {first}{more}; activation {labeller.activation}"),
        ]

    def exchange(self, images: Sequence[Image], jobs: Mapping[str, Job]) -> Exchange:
        """Read the pictures together, run the model on all of them; one that takes too long is tried alone."""
        files = yield from read_all(images, max_bytes=self.max_bytes, timeout=self.timeout)
        try:
            found = yield Compute(partial(self._tags, files), self.timeout)
        except TransientError:
            if len(files) == 1:
                raise
            found = []
            for image, file in zip(images, files, strict=True):
                try:
                    found += yield Compute(partial(self._tags, [file]), self.timeout, image)
                except TransientError as error:
                    found.append(error)
        results: list[Result] = [Answer(each) if isinstance(each, tuple) else each for each in found]
        return results

    def _tags(self, files: Sequence[bytes | CallError]) -> list[tuple[Tag, ...] | CallError]:
        labeller = self.loaded().labeller
        return labeller.tags(files, max_pixels=self.max_pixels, max_decode_bytes=self.max_decode_bytes)


_SECONDS_OF_DECODING: Final = 0.006
