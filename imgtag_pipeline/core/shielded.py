"""Shields an update from cancellation, so that the stored record and the caller's view never differ."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """Its result, also when the caller is cancelled meanwhile: that comes at the caller's next wait."""
    task = asyncio.ensure_future(work)
    is_cut = False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            is_cut = True
    caller = asyncio.current_task()
    if is_cut and caller is not None:
        caller.uncancel()
        caller.cancel()
    return task.result()
