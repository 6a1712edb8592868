"""Taking rows of Arrow arrays by position, for every type and with nothing copied where nothing moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_WITHOUT_VIEW: Final = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def positions_of(index: pa.Array) -> tuple[Ints, Mask]:
    """Each row's outcome (0 where there is none) and whether the row has none."""
    index = flat(index)
    missing = np.asarray(pc.is_null(index))
    return np.asarray(pc.fill_null(index, 0)).astype(np.int64), missing


def numbers_at(values: Ints, at: Ints, missing: Mask) -> Ints:
    """The numbers at these positions, 0 where missing."""
    if not len(values):
        return np.zeros(len(at), dtype=np.int64)
    return np.where(missing, 0, values[at])


def is_identity(at: Ints, missing: Mask | None, length: int) -> bool:
    """The positions are all of them, once each and in order."""
    if len(at) != length or (missing is not None and missing.any()):
        return False
    return bool((at == np.arange(length)).all())


def picker(at: Ints, missing: Mask | None, length: int) -> Callable[[pa.Array], pa.Array]:
    """A function that takes these positions of an array, null where missing; free of cost where nothing moves."""
    if is_identity(at, missing, length):
        return lambda array: array
    positions = pa.array(at, mask=missing)

    def pick(array: pa.Array) -> pa.Array:
        if array.null_count == len(array):
            return pa.nulls(len(at), array.type)
        return take(array, positions)

    return pick


def take(array: pa.Array, positions: pa.Array) -> pa.Array:
    """`array.take` for every type, also for those that Arrow has no kernel for (views, run-end encoding)."""
    plain = _WITHOUT_VIEW.get(array.type)
    try:
        if plain is not None:
            return array.cast(plain).take(positions).cast(array.type)
        return array.take(positions)
    except pa.ArrowNotImplementedError:
        values = array.to_pylist()
        taken: list[Any] = [None if at is None else values[at] for at in positions.to_pylist()]
        return pa.array(taken, array.type)


def flat(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One array, whatever the number of its chunks."""
    if not isinstance(array, pa.ChunkedArray):
        return array
    whole = array.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
