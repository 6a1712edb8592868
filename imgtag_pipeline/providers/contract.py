"""What a provider is: a pure description of the conversation about an image, without I/O and without state of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

from imgtag_pipeline.errors import ConfigError, PermanentError
from imgtag_pipeline.model import Call, Exchange, Facts, Image, Job, Moment, Price, Quota, Reply, Request

P = TypeVar("P")


@runtime_checkable
class Provider(Protocol):
    """One API operation with its options and credentials; frozen, safe to share, secrets hidden in its `repr`."""

    @property
    def address(self) -> str:
        """The name that users write: "viapi/TaggingImage"."""
        ...

    @property
    def facts(self) -> Facts:
        """For people: documentation, limits, scale, price."""
        ...

    @property
    def quota(self) -> Quota:
        """The quota of the main call; `qps` is the vendor's documented default or the caller's share."""
        ...

    @property
    def price(self) -> Price | None:
        """Price of one billable call; None when the vendor's price is unknown."""
        ...

    @property
    def batch_size(self) -> int:
        """The most images that one exchange may be given."""
        ...

    @property
    def concurrency(self) -> int:
        """Exchanges in flight that make sense by default."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """The JSON-ready options that change results (address, action options): what the tag store keeps apart."""
        ...

    def key(self, url: str) -> str:
        """The image's key for a cell value: by default `urls.image_key`. The key of a key is that key."""
        ...

    def exchange(self, images: Sequence[Image], jobs: Mapping[str, Job]) -> Exchange:
        """The conversation about 1 to `batch_size` images.

        It yields steps and returns one `Answer` for each image, in order, or the `PermanentError` (or, where only
        this image has to wait, the `TransientError`) that it came to.

        `jobs` holds, by key, tasks that an earlier run submitted and did not finish. A `CallError` that the exchange
        does not catch is the outcome of all its images (after a permanent one, a batch is asked again in halves).
        """
        ...

    def sign(self, request: Request, moment: Moment) -> Request:
        """The request with its signature, made anew for each attempt."""
        ...

    def check(self, call: Call, reply: Reply) -> None:
        """Return for a success; else raise the `CallError` subclass that the vendor's code stands for.

        The exchange is given the same `Reply` afterwards; `reply.once(read)` lets the two read its body once.
        """
        ...


@runtime_checkable
class Embedded(Protocol):
    """A provider without a vendor: it reads images and computes here, and makes no calls.

    `without_vendor.completed` adds what the pipeline needs beside that: no quota, no price, nothing to sign or check.
    """

    @property
    def address(self) -> str:
        """The name that users write."""
        ...

    @property
    def facts(self) -> Facts:
        """For people: what it is, formats, limits, scale."""
        ...

    @property
    def batch_size(self) -> int:
        """The most images that one exchange may be given."""
        ...

    @property
    def concurrency(self) -> int:
        """Exchanges at a time that make sense by default."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """The JSON-ready options that change results."""
        ...

    def key(self, url: str) -> str:
        """The image's key for a cell value: by default `urls.image_key`."""
        ...

    def exchange(self, images: Sequence[Image], jobs: Mapping[str, Job]) -> Exchange:
        """The steps about 1 to `batch_size` images, as of a `Provider`, without calls."""
        ...


# --- what a provider may offer beside that ----------------------------------------------------------------------


@runtime_checkable
class Prechecking(Protocol):
    """A provider that can tell by the reference alone that an image will not succeed."""

    def precheck(self, url: str) -> PermanentError | None:
        """The error that the image would come to, found without a call; None when nothing speaks against it."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A provider that needs keys."""

    def prepare(self) -> None:
        """Fetch the keys, before the first call of a run; raises `ConfigError` when there are none. May block."""
        ...

    def refresh(self) -> bool:
        """Fetch the keys anew after a `CredentialsExpiredError`; True when there are other keys now. May block."""
        ...


@runtime_checkable
class ReadingImages(Protocol):
    """A provider that has images read here, all of them or some, and sends or computes on their bytes."""

    def reads(self, url: str) -> bool:
        """Whether this image has to be read here; then `precheck` says nothing about it."""
        ...

    def check_head(self, head: bytes, size: int) -> PermanentError | None:
        """Why an image of `size` bytes that begins like this will not succeed, or None."""
        ...


@runtime_checkable
class Computing(Protocol):
    """A provider that computes its answers here."""

    @property
    def threads(self) -> int | None:
        """Computations at a time; None: one for each core that this process may use."""
        ...

    def seconds_an_image(self) -> float:
        """About how long one image takes on one core of this machine, tried on a blank one. May block."""
        ...

    def described(self) -> Sequence[tuple[str, str]]:
        """What it is, for `imgtag doctor`: names and words. May block."""
        ...


@runtime_checkable
class Featuring(Protocol):
    """A provider that can give a vector for each image beside its tags."""

    @property
    def features_size(self) -> int | None:
        """How many numbers a vector has; None where none was asked for."""
        ...


def may_read_files(provider: Provider, allow_local: bool) -> bool:
    """Whether files of this machine may be read: by the caller's word, or because the provider was built for bytes."""
    return allow_local or getattr(provider, "image_mode", "bytes") == "bytes"


WAITED: Final = frozenset(("ComputeTimeout",))
MENDED: Final = frozenset(("UnsupportedFormat", "ImageTooLarge", "TooManyPixels", "NotRGB"))


def mended_codes(provider: Provider) -> frozenset[str]:
    """The codes of failures that this provider, as it is set up, may not come to again.

    An older version stored time-outs of computing that came from waiting; those are no failure of the picture.
    """
    if provider.address == "local":
        return WAITED
    return MENDED if getattr(provider, "fit", False) is True else frozenset()


def fitting(provider: P) -> P:
    """The same provider with `fit`; raises `ConfigError` where it sends no bytes."""
    if not is_dataclass(provider) or "fit" not in {one.name for one in fields(provider)}:
        raise ConfigError(
            "fit is for providers that send the bytes of images, such as viapi/TaggingImage or tencent_v1, and "
            f"{getattr(provider, 'address', provider)!r} does not; leave it out"
        )
    return replace(provider, fit=True)  # type: ignore[type-var]
