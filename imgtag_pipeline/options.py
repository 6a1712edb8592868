"""What a caller may ask for, checked once when it is said; the same words in Python and on the command line."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Final, Literal, Self, TypedDict, TypeVar, cast

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers.contract import Embedded, Provider
from imgtag_pipeline.run.breaker import BreakerLimits
from imgtag_pipeline.run.events import Event
from imgtag_pipeline.run.retry_policy import RetryPolicy
from imgtag_pipeline.run.stopping import Stop

F = TypeVar("F", bound=Callable[..., Any])

Shape = Literal["long", "wide", "nested"]
SHAPES = ("long", "wide", "nested")
ON_CAP = ("raise", "write")
ERRORS = ("rows", "drop", "raise")
VALUES = ("confidence", "measure")
_MOST = 1_000_000_000_000


class OptionWords(TypedDict, total=False):
    """The keyword arguments of `label`, `alabel`, `enrich` and `plan`; `Options` says what each means."""

    provider: str | Provider | Embedded
    shape: Shape
    min_confidence: float | None
    top_k: int | None
    vocabulary: Sequence[str] | None
    value: Literal["confidence", "measure"]
    checkpoint: str | os.PathLike[str] | None
    key: str | None
    keep: Sequence[str]
    qps: float | None
    concurrency: int | None
    budget: float | None
    max_calls: int | None
    on_cap: Literal["raise", "write"]
    offline: bool
    job: str | None
    budget_per: Literal["day", "month"] | None
    price: float | None
    retry_failed: bool
    stop_failed: int | str | None
    errors: Literal["rows", "drop", "raise"]
    progress: bool | None
    storage_options: Mapping[str, Any] | None
    redis_url: str | None
    allow_private: bool
    allow_local: bool
    fit: bool
    policy: RetryPolicy
    breaker: BreakerLimits
    grace: float
    stop: Stop | None
    read_ahead: int | None
    spool: str | os.PathLike[str] | None
    put_every: float
    observer: Callable[[Event], object] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a table is labelled.

    provider: address (`"viapi/TaggingImage"`, see `imgtag providers`) or a provider object. Default: local.
    shape: "long" (a row per tag), "wide" (a column per tag), "nested" (a list per row).
    min_confidence: show tags of at least this confidence, 0..1; tags without a confidence stay. Only a view.
    top_k: show at most so many tags per image, best first. Only a view.
    vocabulary: wide only: the tags that become columns, in this order. Default: the tags seen, most frequent first.
    value: wide only: "confidence" (a measure only where there is none) or "measure" (share, severity) in the cells.
    checkpoint: the tag store, a folder or fsspec URL; what it knows is not asked again. Default: memory.
    key: column that identifies an image, as it is written. Default: the URL in its normal spelling, unsigned.
    keep: long only: further columns of yours to carry along.
    qps: calls a second, your share of the account's quota. Default: the provider's documented quota.
    concurrency: exchanges in flight. Default: the provider's, more with a higher qps.
    budget: yuan to spend at most, of this run and capped ones that overlap with it on the checkpoint (or redis_url).
    max_calls: paid calls to send at most, shared as budget is.
    on_cap: "raise" (the default), or "write": give the table all the same, unasked images skipped as `NotAskedYet`.
    offline: show only what the checkpoint knows: no call is made, no keys are needed.
    job: budget and max_calls are for all runs of this name, one after another or at once, on the checkpoint or Redis.
    budget_per: "day" or "month" of China: budget is for all calls of it in the checkpoint's ledger (or Redis).
    price: yuan per call, where the provider's price is unknown.
    retry_failed: ask again about images that failed for good.
    stop_failed: end the run once more images than this have failed: a number, or a share such as "20%" (of 50 or more).
    errors: "rows" (a failure is a row), "drop" (such rows are left out), "raise" (`RowsFailed` at the end).
    progress: show a bar on standard error. Default None: when a person looks.
    storage_options: for fsspec: where images, inputs, outputs and checkpoint need them.
    redis_url: share quota and caps with other hosts.
    allow_private: read images also from addresses that are not public, and by schemes that name a host (ftp, smb).
    allow_local: send files of this machine (paths, file:// and the like) to a vendor; `local` reads them anyhow.
    fit: make a JPEG within the vendor's limits, here, of images in other formats and of too large ones.
    policy: `RetryPolicy`, how long and how often one image is tried.
    breaker: `BreakerLimits`, when a run that only fails stops by itself.
    grace: seconds that calls in flight get after an interrupt.
    stop: an `imgtag.Stop()`, whose `request()` ends the run from another thread.
    read_ahead: readers only: images paid for ahead of who reads. Default: 5 s of the quota, 16 to 256.
    spool: folder where answers wait for a checkpoint behind a URL. Default: IMGTAG_SPOOL, else the user's cache.
    put_every: seconds between puts of sent marks into a checkpoint behind a URL; a lost host's later calls go unseen.
    observer: called with each event of the run (`imgtag.events`), on the run's thread; one that raises is dropped.
    """

    provider: str | Provider | Embedded = "local"
    shape: Shape = "long"
    min_confidence: float | None = None
    top_k: int | None = None
    vocabulary: Sequence[str] | None = None
    value: Literal["confidence", "measure"] = "confidence"
    checkpoint: str | None = field(default=None, repr=False)
    key: str | None = None
    keep: Sequence[str] = ()
    qps: float | None = None
    concurrency: int | None = None
    budget: float | None = None
    max_calls: int | None = None
    on_cap: Literal["raise", "write"] = "raise"
    offline: bool = False
    job: str | None = None
    budget_per: Literal["day", "month"] | None = None
    price: float | None = None
    retry_failed: bool = False
    stop_failed: int | str | None = None
    errors: Literal["rows", "drop", "raise"] = "rows"
    progress: bool | None = None
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    redis_url: str | None = field(default=None, repr=False)
    allow_private: bool = False
    allow_local: bool = False
    fit: bool = False
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    breaker: BreakerLimits = field(default_factory=BreakerLimits)
    grace: float = 10.0
    stop: Stop | None = field(default=None, repr=False)
    read_ahead: int | None = None
    spool: str | os.PathLike[str] | None = field(default=None, repr=False)
    put_every: float = 0.3
    observer: Callable[[Event], object] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, words: OptionWords) -> Self:
        """The checked options; an unknown word is refused with the nearest known one."""
        known = [item.name for item in fields(cls)]
        for word in words:
            if word not in known:
                near = difflib.get_close_matches(word, known, 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"unknown option {word!r}; allowed: {', '.join(known)}{hint}")
        return cls(**cast(dict[str, Any], words))

    def __post_init__(self) -> None:
        if isinstance(self.provider, type):
            name = self.provider.__name__
            raise ConfigError(f"provider is the class {name}; build one of it: imgtag.providers.{name}(...)")
        if not isinstance(self.provider, str | Embedded):
            raise ConfigError(
                f"provider is {type(self.provider).__name__}; allowed: an address such as 'viapi/TaggingImage', "
                "or a provider object such as imgtag.providers.Viapi(action='TaggingImage')"
            )
        _one_of("shape", self.shape, SHAPES)
        _one_of("errors", self.errors, ERRORS)
        _one_of("on_cap", self.on_cap, ON_CAP)
        _one_of("value", self.value, VALUES)
        _within("min_confidence", self.min_confidence, 0, 1)
        _within("top_k", self.top_k, 1, None, whole=True)
        _within("qps", self.qps, 0.001, 100_000)
        _within("concurrency", self.concurrency, 1, 4096, whole=True)
        _within("budget", self.budget, 0, None)
        _within("max_calls", self.max_calls, 0, None, whole=True)
        _a("job", self.job, str | None, "a name such as '2026-11-26'")
        self._check_caps()
        _within("price", self.price, 0, 1_000_000)
        _within("grace", self.grace, 0, 3600)
        _within("read_ahead", self.read_ahead, 1, 1_000_000, whole=True)
        _within("put_every", self.put_every, 0.05, 5)
        _a("spool", self.spool, str | os.PathLike | None, "a folder of this machine")
        _a("stop", self.stop, Stop | None, "an imgtag.Stop()")
        if self.observer is not None and not callable(self.observer):
            raise ConfigError(f"observer is {self.observer!r}; give a function that takes one event")
        failed_limit(self.stop_failed, name="stop_failed")
        _a("retry_failed", self.retry_failed, bool, "True or False")
        for name in ("allow_private", "allow_local", "fit", "offline"):
            _a(name, getattr(self, name), bool, "True or False")
        _a("progress", self.progress, bool | None, "True, False or None")
        _a("storage_options", self.storage_options, Mapping | None, "a dictionary for fsspec")
        _a("redis_url", self.redis_url, str | None, "a URL such as redis://host:6379/0")
        _a("policy", self.policy, RetryPolicy, "an imgtag.RetryPolicy")
        _a("breaker", self.breaker, BreakerLimits, "an imgtag.BreakerLimits")
        _a("checkpoint", self.checkpoint, str | os.PathLike | None, "a folder, or a URL of one")
        self._settle()

    def _check_caps(self) -> None:
        """A cap that outlives the run needs a place where it is kept."""
        if self.budget_per is not None:
            _one_of("budget_per", self.budget_per, ("day", "month"))
            if self.budget is None:
                raise ConfigError("budget_per needs budget=, the yuan of each day or month")
        if self.offline and self.checkpoint is None:
            raise ConfigError("offline needs checkpoint=, the tag store whose answers are shown")
        if self.job is not None and not self.job.strip():
            raise ConfigError("job is blank; give a name such as '2026-11-26', or leave it out")
        if self.checkpoint is None and self.redis_url is None and (self.job or self.budget_per):
            name = "job" if self.job else "budget_per"
            raise ConfigError(f"{name} needs checkpoint= (or redis_url=), where the calls of earlier runs are counted")

    @property
    def writes_unasked(self) -> bool:
        """Whether a table is delivered in which images may be that nobody has asked about."""
        return self.offline or self.on_cap == "write"

    def _settle(self) -> None:
        """Paths and labels as text, lists as tuples."""
        if self.checkpoint is not None:
            store = os.fspath(self.checkpoint)
            if "\0" in store or store.startswith("data:"):
                raise ConfigError(f"checkpoint is {store!r}; give a folder, or a URL of one")
            object.__setattr__(self, "checkpoint", store)
        if self.key is not None:
            object.__setattr__(self, "key", str(self.key))
        is_one = isinstance(self.keep, str) or not isinstance(self.keep, Iterable)
        object.__setattr__(self, "keep", (self.keep,) if is_one else tuple(self.keep))
        if self.vocabulary is not None:
            self._check_vocabulary()

    def _check_vocabulary(self) -> None:
        if self.shape != "wide":
            raise ConfigError(f"vocabulary is for shape='wide' only, and shape is {self.shape!r}; leave it out")
        given: Any = self.vocabulary
        words = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (given,)
        if isinstance(given, str) or not all(isinstance(word, str) and word for word in words):
            raise ConfigError("vocabulary must be a list of tag names, for example ['cat', 'dog']")
        if len(set(words)) != len(words):
            raise ConfigError("vocabulary names a tag twice; each tag becomes one column, so name it once")
        object.__setattr__(self, "vocabulary", words)


WORDS: Final = "**words"  # the line of a docstring that stands for all options


def spoken(function: F) -> F:
    """Let `help` and notebooks show the words of `Options` with types, defaults and meaning, instead of `**words`."""
    signature = inspect.signature(function)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    words = [
        inspect.Parameter(one.name, inspect.Parameter.KEYWORD_ONLY, default=_default(one), annotation=one.type)
        for one in fields(Options)
    ]
    doc = inspect.cleandoc(function.__doc__ or "")
    assert WORDS in doc, function.__qualname__
    function.__doc__ = doc.replace(WORDS, "\n".join(_described())) + "\n"
    vars(function)["__signature__"] = signature.replace(parameters=[*own, *words])
    return function


def _described() -> Iterator[str]:
    """The options as numpydoc has them: name, type and default, then the meaning."""
    text = inspect.cleandoc(Options.__doc__ or "").partition("\n\n")[2]
    meanings = dict(line.split(": ", 1) for line in text.splitlines())
    for one in fields(Options):
        default, meaning = _default(one), meanings[one.name]
        shown = (
            repr(default) if isinstance(default, str | int | float | tuple | None) else f"{type(default).__name__}()"
        )
        kind = f"Literal{list(SHAPES)}" if one.name == "shape" else one.type
        yield f"{one.name} : {kind}, default {shown}"
        yield f"    {meaning if meaning.split()[0] in meanings else meaning[0].upper() + meaning[1:]}"


def _default(one: Field[Any]) -> Any:
    return one.default_factory() if callable(one.default_factory) else one.default


def failed_limit(value: int | str | None, images: int = 0, *, name: str = "max_failed") -> float | None:
    """Failed images that are allowed among so many: a number, or a share such as "1%". Raises `ConfigError`."""
    if value is None:
        return None
    text = str(value).strip()
    is_share = text.endswith("%")
    try:
        number = float(text[:-1]) if is_share else int(text)
    except ValueError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= (100 if is_share else _MOST):
        raise ConfigError(f"{name} is {value!r}; allowed: a number of images from 0 up, or a share such as '1%'")
    return images * number / 100 if is_share else number


def _one_of(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} is {value!r}; allowed: {', '.join(map(repr, allowed))}")


def _a(name: str, value: object, kind: Any, allowed: str) -> None:
    if not isinstance(value, kind):
        raise ConfigError(f"{name} is of type {type(value).__name__}; allowed: {allowed}")


def _within(name: str, value: object, low: float, high: float | None, *, whole: bool = False) -> None:
    if value is None:
        return
    is_number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    if not is_number or not low <= value <= (high if high is not None else _MOST):  # type: ignore[operator]
        noun = "a whole number" if whole else "a number"
        bound = f"from {low:g} to {high:g}" if high is not None else f"of {low:g} or more, at most {_MOST:,}"
        raise ConfigError(f"{name} is {value!r}; allowed: {noun} {bound}")
