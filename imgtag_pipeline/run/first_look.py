"""Looks at a run's first images, so that a table of which most cannot succeed is told before the rest is asked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.model import Image
from imgtag_pipeline.run.plan import Reasons
from imgtag_pipeline.run.report import counted

log = logging.getLogger("imgtag_pipeline")

LOOKED_AT: Final = 1000
SECONDS: Final = 3.0
_LISTED: Final = 3


@dataclass(slots=True, eq=False)
class FirstLook:
    """Counts those of the first thousand distinct images that cannot succeed; warns once, when it is over half.

    `check` may read the beginning of local files; one look takes at most `SECONDS`, after that none is taken.
    """

    check: Callable[[str], PermanentError | None]
    total_rows: int | None = None
    _rows: int = 0
    _images: int = 0
    _impossible: int = 0
    _reasons: Reasons = field(default_factory=Reasons)
    _is_over: bool = False

    @property
    def is_over(self) -> bool:
        """Whether no more images are looked at."""
        return self._is_over

    async def look(self, rows: int, images: Sequence[Image], is_known: Sequence[bool]) -> None:
        """The next rows of the input with those of their images that are new, and whether the store knows these."""
        self._rows += rows
        room = LOOKED_AT - self._images
        self._images += len(images[:room])
        unknown = [image for image, known in zip(images[:room], is_known, strict=False) if not known]
        if not await self._judge(unknown):
            self._is_over = True
        elif self._images >= LOOKED_AT or self._rows == self.total_rows:
            self.end()

    def end(self) -> None:
        """No more images will come: say what was seen."""
        if not self._is_over and self._impossible * 2 > self._images:
            listed = self._reasons.listed()
            log.warning(
                "event=mostly_impossible impossible=%d of=%d detail=%s",
                self._impossible,
                self._images,
                f"of the first {counted(self._images, 'distinct image')} {self._impossible:,} cannot succeed (no call, "
                "a failed row each): "
                + "; ".join(
                    f"{each.images:,} {each.code}, for example {each.example}: {each.error}"
                    for each in listed[:_LISTED]
                ),
            )
        self._is_over = True

    async def _judge(self, images: Sequence[Image]) -> bool:
        """Count the impossible ones in a thread of its own; False when a file system hangs."""
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        found: list[tuple[str, PermanentError]] = []

        def judge() -> None:
            for image in images:
                if (problem := self.check(image.url)) is not None:
                    found.append((image.url, problem))
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=judge, name="imgtag-first-look", daemon=True).start()
        try:
            async with asyncio.timeout(SECONDS):
                await done.wait()
        except TimeoutError:
            return False
        self._impossible += len(found)
        for url, problem in found:
            self._reasons.add(url, problem)
        return True
