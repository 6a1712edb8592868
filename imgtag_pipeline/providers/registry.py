"""Finds providers by their address: one of the table below, or an entry point of another package.

A built-in provider is imported when it is asked for. A foreign one is an entry point of the group
`imgtag_pipeline.providers`; its name is the address or its first part.
"""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import msgspec

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.model import Facts
from imgtag_pipeline.providers.contract import Embedded, Provider
from imgtag_pipeline.providers.without_vendor import completed

GROUP: Final = "imgtag_pipeline.providers"
_LISTS: Final = (tuple, list, Sequence)
# The first part of an address: the module of this folder and its class.
BUILT_IN: Final = {
    "local": ("local", "Local"),
    "onnx": ("onnx.provider", "Onnx"),
    "oss_labels": ("alibaba_oss.labels", "OssLabels"),
    "oss_tagimage": ("alibaba_oss.tagimage", "OssTagimage"),
    "tencent_v1": ("tencent_image.v1", "TencentV1"),
    "tencent_v2": ("tencent_image.v2", "TencentV2"),
    "viapi": ("alibaba_viapi.viapi", "Viapi"),
}


@dataclass(frozen=True, slots=True)
class Description:
    """One address with its facts, the options that it takes beside those of every provider, and those that it needs."""

    address: str
    facts: Facts
    options: tuple[str, ...]
    required: tuple[str, ...] = ()


def get(address: str, **options: Any) -> Provider:
    """The provider of an address with its typed options; texts (of a command line) are converted to the option's type.

    Raises `ConfigError` for an unknown address or option, with what is known.
    """
    action = address.partition("/")[2]
    factory = _factory(address)
    if action and address not in _foreign():
        options = {"action": action, **options}
    allowed = _options(factory)
    unknown = [name for name in options if name not in allowed]
    if unknown:
        shown = _shown(factory, address)
        close = difflib.get_close_matches(unknown[0], shown, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"{address!r} has no option {unknown[0]!r}; allowed: {', '.join(shown) or 'none'}{hint}")
    missing = [name for name in _required(factory, address) if options.get(name) in (None, "")]
    if missing:
        raise ConfigError(f"{address!r} needs {', '.join(f'{name}=' for name in missing)}{_hint(factory, missing[0])}")
    typed = {name: _typed(address, name, value, allowed[name]) for name, value in options.items()}
    try:
        provider = factory(**typed)
    except TypeError as error:
        raise ConfigError(f"{address!r} cannot be built with these options: {error}") from error
    if not isinstance(provider, Provider | Embedded):
        raise ConfigError(f"{address!r} is a {type(provider).__name__}, which is not a provider")
    return completed(provider)


def names() -> list[str]:
    """All addresses, built-in and foreign, sorted."""
    return sorted({address for family in BUILT_IN for address in _addresses(family)} | set(_foreign()))


def describe() -> list[Description]:
    """All providers with their facts; no credentials are needed. A foreign one that cannot be loaded is left out."""
    found = []
    for address in names():
        try:
            factory = _factory(address)
            facts = _facts(factory, address)
        except (ConfigError, ImportError, AttributeError, TypeError):
            if address in _foreign():
                continue
            raise
        found.append(Description(address, facts, _shown(factory, address), _required(factory, address)))
    return found


def load_class(name: str) -> Any:
    """The class of a built-in provider by its name (`Viapi`); raises `AttributeError`."""
    for family, (_, class_name) in BUILT_IN.items():
        if class_name == name:
            return _class(family)
    raise AttributeError(f"module 'imgtag_pipeline.providers' has no attribute {name!r}")


def _class(family: str) -> Any:
    module, name = BUILT_IN[family]
    return getattr(import_module(f"{__package__}.{module}"), name)


def _addresses(family: str) -> tuple[str, ...]:
    listed = getattr(_class(family), "addresses", None)
    return tuple(listed()) if listed else (family,)


def _foreign() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _factory(address: str) -> Callable[..., Any]:
    family = address.partition("/")[0]
    if family in BUILT_IN and address in _addresses(family):
        return _class(family)  # type: ignore[no-any-return]
    foreign = _foreign()
    point = foreign.get(address) or foreign.get(family)
    if point is None:
        close = difflib.get_close_matches(address, names(), 1, 0.5)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise ConfigError(f"unknown provider {address!r}{hint}; known: {', '.join(names())}")
    try:
        return point.load()  # type: ignore[no-any-return]
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the provider {address!r} of {point.value!r} cannot be loaded: {error}") from error


def _shown(factory: Any, address: str) -> tuple[str, ...]:
    """The options that can be told people: without keys, and only those of this address."""
    allowed = tuple(sorted(set(_options(factory)) - {"action", "credentials"}))
    narrow = getattr(factory, "options_of", None)
    return tuple(narrow(address, allowed)) if narrow else allowed


def _required(factory: Any, address: str) -> tuple[str, ...]:
    """The options without which the address cannot be built: parameters without a default, and what the class says."""
    told = getattr(factory, "required_of", None)
    parameters = inspect.signature(factory).parameters.values()
    bare = tuple(one.name for one in parameters if one.default is one.empty and one.kind is not one.VAR_KEYWORD)
    named = tuple(name for name in bare if name not in ("action", "credentials") and not name.startswith("_"))
    return (*named, *(told(address) if told else ()))


def _hint(factory: Any, name: str) -> str:
    """What to write, where the class says it: its `hints` by option."""
    hint = getattr(factory, "hints", {}).get(name)
    return f"; {hint}" if hint else ""


def _facts(factory: Any, address: str) -> Facts:
    tell = getattr(factory, "facts_of", None)
    facts: Facts = tell(address) if tell else get(address).facts
    return facts


def _options(factory: Callable[..., Any]) -> Mapping[str, Any]:
    """The names of a factory's options with their types."""
    parameters = inspect.signature(factory).parameters
    known = [name for name, one in parameters.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    try:
        hints = typing.get_type_hints(factory if inspect.isfunction(factory) else factory.__init__)
    except (NameError, TypeError):
        hints = {}
    return {name: hints.get(name, Any) for name in known}


def _typed(address: str, name: str, value: Any, kind: Any) -> Any:
    """The option's value; a text becomes a number or a truth value where the option wants one."""
    if not isinstance(value, str) or kind is Any:
        return value
    lists = [part for part in (kind, *typing.get_args(kind)) if typing.get_origin(part) in _LISTS]
    kinds = tuple(_outside(kind, lists))
    if any(isinstance(one, str) or one is str for one in kinds):
        return value
    if lists and ("," in value or not {int, float, bool}.intersection(kinds)):
        return _listed(address, name, value, lists[0])
    if not {int, float, bool}.intersection(kinds):
        raise ConfigError(f"{name} of {address!r} cannot be given as text; build the provider in Python")
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        words = " or ".join({int: "a whole number", float: "a number", bool: "true or false"}.get(k, "") for k in kinds)
        raise ConfigError(f"{name} of {address!r} is {value!r}; allowed: {words.removesuffix(' or ')}") from None


def _outside(kind: Any, lists: Sequence[Any]) -> Iterator[Any]:
    """The kinds of a single value among those that an option takes."""
    if kind in lists:
        return
    parts = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    for part in parts:
        if part not in lists:
            yield from _kinds(part)


def _listed(address: str, name: str, value: str, kind: Any) -> Any:
    """A text with commas as the list that the option wants."""
    parts = [part.strip() for part in value.split(",") if part.strip()]
    try:
        return msgspec.convert(parts, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{name} of {address!r} is {value!r}; allowed: values with commas between them ({error})"
        ) from None


def _kinds(kind: Any) -> Iterator[Any]:
    """The types of a union, and the words of a literal."""
    if isinstance(kind, type) or not typing.get_args(kind):
        yield kind
    else:
        for part in typing.get_args(kind):
            yield from _kinds(part)
