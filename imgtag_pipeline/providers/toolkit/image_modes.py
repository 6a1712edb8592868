"""How an image is handed to a vendor: as its URL where the vendor can fetch that, else read here and sent as bytes.

With `fit`, every image that may be read is read here first; what the vendor would refuse becomes a JPEG within its
limits. An image within the limits is handed over as without `fit`.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal

from imgtag_pipeline.errors import CallError, ConfigError, PermanentError
from imgtag_pipeline.model import Answer, Box, Compute, Image, Step, Tag, read
from imgtag_pipeline.providers.contract import MENDED
from imgtag_pipeline.providers.toolkit import options
from imgtag_pipeline.providers.toolkit.precheck import Limits, check_bytes, check_extension
from imgtag_pipeline.tagger.decode import WITH_HEIF, can_read_heic
from imgtag_pipeline.tagger.fit import Fitted, fit_image
from imgtag_pipeline.urls import ascii_url

ImageMode = Literal["auto", "url", "bytes"]
MODES: Final = ("auto", "url", "bytes")
MOST_BYTES: Final = 64 << 20  # that are read where no limit is stated, or to be fitted
FIT_SECONDS: Final = 60.0
# Formats that can be made a JPEG here.
_FITTED: Final = frozenset(("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JP2", "HEIC", "BigTIFF"))
# What stands in the way of fetching; any other error is the reference's own.
_NOT_FETCHED: Final = frozenset(("UnsupportedScheme", "HostNotPublic", "WrongRegion", "ForeignHost"))


@dataclass(frozen=True, slots=True)
class Handed:
    """What is sent for one image: `url`, or `data` where that is None. `fitted` tells how the data was made."""

    url: str | None = field(default=None, repr=False)
    data: bytes = field(default=b"", repr=False)
    fitted: Fitted | None = None

    def told(self, answer: Answer) -> Answer:
        """The answer about what was sent as one about the image: boxes in its pixels, the fitting in `extra`."""
        return answer if self.fitted is None else as_of_original(answer, self.fitted)


@dataclass(frozen=True, slots=True)
class Manner:
    """A provider's way with one image.

    `unfetchable` is why the vendor cannot fetch it, None where it can. `otherwise` is a second reference to the same
    image, read where the first is forbidden: an object that is not public, through its file system with its keys.
    """

    mode: ImageMode
    fit: bool
    limits: Limits
    unfetchable: PermanentError | None
    otherwise: str | None = None

    @property
    def must_read(self) -> bool:
        """Whether the image fails where it cannot be read here; one that the vendor can fetch does not."""
        return self.reads and not self._can_be_fetched

    @property
    def reads(self) -> bool:
        """Whether the image is read here, be it only to see whether it has to be fitted."""
        if self.mode == "url" or (self.mode == "auto" and self._is_broken):
            return False
        return self.mode == "bytes" or self.fit or self.unfetchable is not None

    @property
    def _can_be_fetched(self) -> bool:
        return self.mode == "auto" and self.unfetchable is None

    @property
    def _is_broken(self) -> bool:
        return self.unfetchable is not None and self.unfetchable.code not in _NOT_FETCHED

    def precheck(self, url: str) -> PermanentError | None:
        """Why the image cannot succeed, by its reference; nothing where it is read here."""
        if self.reads:
            return None
        found = self.unfetchable or check_extension(url, self.limits)
        return None if found is None else with_way_out(found)

    def check_head(self, head: bytes, size: int) -> PermanentError | None:
        """Why an image that is read here will not succeed, by its size and first bytes."""
        found = check_bytes(head, self.limits, size)
        if found is None:
            return None
        if self.fit and size > MOST_BYTES:
            return _larger_than_is_fitted(size)
        return None if self.fit and is_fitted(found) else with_way_out(found)

    def hand(self, image: Image) -> Generator[Step, Any, Handed | PermanentError]:
        """What to send for the image, or why nothing is sent. Raises what reading raises."""
        problem = self.precheck(image.url)
        if problem is not None:
            return problem
        as_url = Handed(ascii_url(image.url.strip()))
        if not self.reads:
            return as_url
        try:
            data = yield from self._read(image)
        except CallError as error:
            if self._can_be_fetched and check_extension(image.url, self.limits) is None:
                return as_url  # the vendor may reach what this machine does not
            if isinstance(error, PermanentError) and not self.fit:
                raise with_way_out(error) from None
            raise
        problem = check_bytes(data, self.limits)
        if problem is None:
            return as_url if self._can_be_fetched else Handed(data=data)
        if not self.fit or not is_fitted(problem):
            return with_way_out(problem)
        return (yield from self._fitted(data))

    def _read(self, image: Image) -> Generator[Step, Any, bytes]:
        max_bytes = MOST_BYTES if self.fit else self.limits.max_bytes or MOST_BYTES
        try:
            return (yield from read(image, max_bytes=max_bytes))
        except PermanentError as error:
            if self.otherwise is None or error.code not in ("HTTP401", "HTTP403"):
                raise
        return (yield from read(replace(image, url=self.otherwise), max_bytes=max_bytes))

    def _fitted(self, data: bytes) -> Generator[Step, Any, Handed | PermanentError]:
        limits = self.limits
        work = partial(
            fit_image,
            data,
            max_bytes=limits.max_bytes,
            min_side=limits.min_side,
            max_side=limits.max_side,
            max_pixels=limits.max_pixels,
        )
        try:
            fitted: Fitted = yield Compute(work, FIT_SECONDS)
        except PermanentError as error:
            return error
        return Handed(data=fitted.data, fitted=fitted)


def check_options(image_mode: object, fit: object) -> None:
    """Raise `ConfigError` for what cannot be."""
    options.one_of("image_mode", image_mode, MODES)
    if not isinstance(fit, bool):
        raise ConfigError(f"fit is {fit!r}; allowed: True or False")
    if fit and image_mode == "url":
        raise ConfigError('fit needs the bytes of an image, and image_mode is "url"; give image_mode="auto" or "bytes"')


def is_fitted(problem: PermanentError) -> bool:
    """Whether `fit` mends this problem with an image."""
    if problem.code == "UnsupportedFormat":
        kind = _kind_in(problem)
        return kind in _FITTED and (kind != "HEIC" or can_read_heic())
    return problem.code in MENDED


def with_way_out(problem: PermanentError) -> PermanentError:
    """The problem with the option that mends it, where there is one; a run with that option asks again."""
    if problem.code == "UnsupportedFormat" and _kind_in(problem) == "HEIC" and not can_read_heic():
        return PermanentError(f"{problem}, or let fit=True (--fit) do it {WITH_HEIF}", code=problem.code)
    if not is_fitted(problem) or "fit=True" in str(problem):
        return problem
    return PermanentError(f"{problem}; fit=True (--fit) makes it a JPEG within the limits here", code=problem.code)


def _kind_in(problem: PermanentError) -> str:
    """The format that the sentence of `precheck` names."""
    return str(problem).removeprefix("the image is ").partition(";")[0]


def _larger_than_is_fitted(size: int) -> PermanentError:
    return PermanentError(f"the image has {size:,} bytes; allowed with fit: {MOST_BYTES:,}", code="ImageTooLarge")


def as_of_original(answer: Answer, fitted: Fitted) -> Answer:
    """The answer about the fitted image as one about the original."""
    across, down = fitted.width_before / fitted.width, fitted.height_before / fitted.height
    return replace(answer, tags=tuple(_moved(tag, across, down, fitted.note) for tag in answer.tags))


def _moved(tag: Tag, across: float, down: float, note: dict[str, Any]) -> Tag:
    box = tag.box
    if box is not None:
        box = Box(box.x * across, box.y * down, box.width * across, box.height * down)
    return replace(tag, box=box, extra={**tag.extra, "fit": note})
