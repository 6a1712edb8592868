"""Any column as text: what a URL or key column is read as, whatever its caller keeps in it. No value makes it raise."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from imgtag_pipeline.core.references import cell, of_picture, picture_bytes
from imgtag_pipeline.core.table import plain_text

_EXACT: Final = 2.0**53
_TEXTS: Final = tuple(
    getattr(pa.types, name) for name in ("is_string", "is_large_string", "is_string_view") if hasattr(pa.types, name)
)


def reference_array(array: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    """An Arrow column of image references: text as it is, anything else as marked text (see `references`)."""
    if isinstance(array, pa.ChunkedArray):
        chunks = [reference_array(chunk) for chunk in array.chunks]
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    kind = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
    if pa.types.is_null(kind) or any(is_kind(kind) for is_kind in _TEXTS):
        return text_array(array)
    return pa.array([_reference(value) for value in array.to_pylist()], pa.string())


def reference_values(values: pd.Series | Iterable[Any]) -> pa.StringArray:
    """A pandas column or any values as image references; see `reference_array`."""
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
        return pa.array([_reference(value) for value in values], pa.string())
    return reference_array(array)


def _reference(value: Any) -> str | None:
    if _is_nothing(value):
        return None
    if isinstance(value, str | os.PathLike):
        return plain_text(value)
    if (picture := picture_bytes(value)) is not None:
        return of_picture(picture)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8")
    if isinstance(value, dict) and value.keys() == {"bytes", "path"} and isinstance(value.get("path"), str):
        return plain_text(value["path"])
    is_data = isinstance(value, bool | int | float | complex | list | tuple | set | dict | np.generic | np.ndarray)
    return cell(value) if is_data else plain_text(value)


def _is_nothing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def text_array(array: pa.Array | pa.ChunkedArray) -> pa.StringArray:
    """An Arrow column as strings; null and NaN are null, whole floats have no `.0`, bytes are read as UTF-8.

    What is no UTF-8 becomes a backslash and its number, so that two keys that differ stay different.
    """
    if isinstance(array, pa.ChunkedArray):
        chunks = [text_array(chunk) for chunk in array.chunks]
        return pa.concat_arrays(chunks) if chunks else pa.array([], pa.string())
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    try:
        text = _floats(array) if pa.types.is_floating(array.type) else array.cast(pa.string())
        text.validate(full=True)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return pa.array([_text(value) for value in _raw(array).to_pylist()], pa.string())
    return text


def text_values(values: pd.Series | Iterable[Any]) -> pa.StringArray:
    """A pandas column or any values as strings: paths, bytes and other objects by their text, NaN and NA as null."""
    try:
        array = pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError):
        return pa.array([_text(value) for value in values], pa.string())
    return text_array(array)


def _text(value: Any) -> str | None:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float | np.floating):
        return None if value != value else str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("utf-8", "backslashreplace")
    return plain_text(value)


def _floats(array: pa.Array) -> pa.StringArray:
    """`1.0` as `1`: a whole number is the same key whether or not its column once held a null."""
    numbers = array.cast(pa.float64())
    numbers = pc.if_else(pc.is_nan(numbers), pa.scalar(None, pa.float64()), numbers)
    is_whole = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), _EXACT))
    whole = pc.if_else(is_whole, numbers, 0.0).cast(pa.int64())
    return pc.if_else(is_whole, whole.cast(pa.string()), numbers.cast(pa.string()))


def _raw(array: pa.Array) -> pa.Array:
    """The bytes of text that is not valid UTF-8, which Python could not read as text."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_string(array.type):
        return array.view(pa.binary())
    if pa.types.is_large_string(array.type):
        return array.view(pa.large_binary())
    if pa.types.is_string_view(array.type):
        return array.view(pa.binary_view())
    return array
