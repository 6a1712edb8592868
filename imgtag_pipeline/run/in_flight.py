"""Which windows of rows wait for which image: each is asked about once, however many rows want it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from imgtag_pipeline.model import Image
from imgtag_pipeline.run.batches import MOST_SPELLINGS, Window
from imgtag_pipeline.run.report import Tally


class InFlight:
    """The images that are being asked about, or will be, each with the windows that wait for its outcome."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._waiting: dict[str, list[Window]] = {}
        self._references: dict[str, dict[str, None]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._waiting

    def join(self, image: Image, window: Window) -> bool:
        """Let the window wait, too, if the image is in flight; whether it is. Its references are kept for `another`."""
        windows = self._waiting.get(image.key)
        if windows is None:
            return False
        windows.append(window)
        window.open += 1
        if not window.pairs:  # of a key that the caller named, the first reference counts
            self._keep(image)
        return True

    def another(self, key: str, tried: Collection[str]) -> str | None:
        """A reference to an image in flight that has not been tried, or None."""
        return next((url for url in self._references.get(key, ()) if url not in tried), None)

    def _keep(self, image: Image) -> None:
        kept = self._references.setdefault(image.key, {})
        for url in (image.url, *image.others):
            if len(kept) <= MOST_SPELLINGS:
                kept.setdefault(url)

    def begin(self, image: Image, window: Window) -> None:
        """The image is asked about from now on, and this window waits for it."""
        self._waiting[image.key] = [window]
        self._keep(image)
        window.open += 1

    def land(self, key: str, *, is_known: bool = False) -> None:
        """The image has an outcome in the store; `is_known`: somebody else has asked."""
        self._references.pop(key, None)
        for window in self._waiting.pop(key, []):
            if is_known:
                window.known.add(key)
            window.settle()

    def give_up(self, images: Sequence[Image]) -> None:
        """These will not be asked about; those that were waited for count as unanswered."""
        for image in images:
            windows = self._waiting.pop(image.key, [])
            self._references.pop(image.key, None)
            self._tally.unanswered += bool(windows)
            for window in windows:
                window.unanswered.add(image.key)
                window.settle()
