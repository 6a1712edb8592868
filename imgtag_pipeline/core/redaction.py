"""Keeps secrets out of tracebacks: options in frames, and the exceptions of other libraries."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, ParamSpec, TypeVar, cast

from imgtag_pipeline.errors import ImgtagError

P = ParamSpec("P")
T = TypeVar("T")


class HiddenText(str):
    """Text that a traceback with local variables does not show."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class HiddenOptions(dict[str, Any]):
    """Options whose values a traceback with local variables does not show."""

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: ***' for name in self)}}}"


_HIDDEN: Final = ("storage_options", "redis_url")


def hide_secrets(function: Callable[P, T]) -> Callable[P, T]:
    """A verb whose secret options are hidden at once, and whose errors come without the exceptions behind them.

    A storage library's exception may show a signed URL, its headers, or what was signed; our own error says what it
    was about. An exception that is not ours is a fault of the package, and keeps all that may explain it.
    """

    @functools.wraps(function)
    def call(*args: P.args, **words: P.kwargs) -> T:
        _hide(words)
        with alone():
            return function(*args, **words)

    @functools.wraps(function)
    async def acall(*args: P.args, **words: P.kwargs) -> Any:
        _hide(words)
        with alone():
            return await cast(Any, function)(*args, **words)

    return cast("Callable[P, T]", acall) if inspect.iscoroutinefunction(function) else call


def _hide(words: dict[str, Any]) -> None:
    for name in _HIDDEN:
        value = words.get(name)
        if isinstance(value, Mapping):
            words[name] = HiddenOptions(value)
        elif isinstance(value, str):
            words[name] = HiddenText(value)


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Our errors leave this block without cause; their context is what the caller was handling already."""
    handled = sys.exception()
    try:
        yield
    except ImgtagError as error:
        error.__cause__, error.__context__ = None, handled
        raise
