"""Reads and writes the few fields of an ONNX file that are used here, so that the package `onnx` is not needed.

ONNX is a protobuf message; field numbers are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_TYPES: Final = {1: np.dtype("<f4"), 2: np.dtype("u1"), 3: np.dtype("i1"), 7: np.dtype("<i8"), 10: np.dtype("<f2")}
_NUMBERS: Final = {kind: number for number, kind in _TYPES.items()}
FLOAT: Final = 1

Shape = Sequence[int | str]


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The weights by name, and the metadata, of one model file."""

    weights: Mapping[str, NDArray[Any]]
    metadata: Mapping[str, str]


def read_onnx(data: bytes) -> OnnxFile:
    """The weights and the metadata of a model; raises `ValueError` where the bytes are no such message."""
    metadata: dict[str, str] = {}
    weights: dict[str, NDArray[Any]] = {}
    for number, value in message_fields(data):
        if number == 14:
            pair = dict(message_fields(value))
            metadata[bytes(pair[1]).decode()] = bytes(pair[2]).decode()
        elif number == 7:
            weights |= dict(_tensor(inner) for field, inner in message_fields(value) if field == 5)
    return OnnxFile(weights, metadata)


def _tensor(data: memoryview) -> tuple[str, NDArray[Any]]:
    shape: list[int] = []
    parts: dict[int, Any] = {}
    for number, value in message_fields(data):
        if number == 1:
            shape += [value] if isinstance(value, int) else _packed(value)
        else:
            parts[number] = value
    kind: Any = _TYPES[parts[2]]
    return bytes(parts[8]).decode(), np.frombuffer(parts[9], kind).reshape(shape)


def _packed(data: memoryview) -> list[int]:
    numbers, at = [], 0
    while at < len(data):
        number, at = _varint(data, at)
        numbers.append(number)
    return numbers


def message_fields(data: bytes | memoryview) -> Iterator[tuple[int, Any]]:
    """The fields of a message in order: numbers as int, everything else as bytes."""
    view, at = memoryview(data), 0
    while at < len(view):
        tag, at = _varint(view, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(view, at)
            yield tag >> 3, value
            continue
        if kind == 2:
            size, at = _varint(view, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a protobuf field of the unknown kind {kind}")
        if at + size > len(view):
            raise ValueError("the file ends within a protobuf field")
        yield tag >> 3, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise ValueError("the file ends within a protobuf number")
        byte = view[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


# --- writing ----------------------------------------------------------------------------------------------------


def model(
    nodes: Sequence[bytes],
    weights: Mapping[str, NDArray[Any]],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    *,
    metadata: Mapping[str, str] | None = None,
    opset: int = 13,
    name: str = "imgtag_pipeline",
) -> bytes:
    """A whole model: nodes in the order in which they run, weights, inputs and outputs (`port`)."""
    graph = b"".join(_field(1, each) for each in nodes) + _field(2, name)
    graph += b"".join(_field(5, tensor(each, values)) for each, values in weights.items())
    graph += b"".join(_field(11, each) for each in inputs) + b"".join(_field(12, each) for each in outputs)
    pairs = (_field(14, _field(1, key) + _field(2, text)) for key, text in (metadata or {}).items())
    return _field(1, 8) + _field(2, name) + _field(7, graph) + _field(8, _field(2, opset)) + b"".join(pairs)


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int | float | Sequence[int]) -> bytes:
    """One operation with its attributes."""
    body = b"".join(_field(1, each) for each in inputs) + b"".join(_field(2, each) for each in outputs)
    body += _field(3, outputs[0]) + _field(4, kind)
    return body + b"".join(_field(5, _attribute(name, value)) for name, value in attributes.items())


def tensor(name: str, values: NDArray[Any]) -> bytes:
    """One weight."""
    body = b"".join(_field(1, size) for size in values.shape) + _field(2, _NUMBERS[values.dtype])
    return body + _field(8, name) + _field(9, np.ascontiguousarray(values).tobytes())


def port(name: str, shape: Shape, kind: int = FLOAT) -> bytes:
    """An input or output of the model: a size that is a text is free."""
    sizes = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, sizes)))


def _attribute(name: str, value: int | float | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _field(1, name) + _field(3, value) + _field(20, 2)
    if isinstance(value, float):
        return _field(1, name) + _number(2 << 3 | 5) + struct.pack("<f", value) + _field(20, 1)
    return _field(1, name) + b"".join(_field(8, each) for each in value) + _field(20, 7)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _number(number << 3) + _number(value & (1 << 64) - 1)
    data = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | 2) + _number(len(data)) + data


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
