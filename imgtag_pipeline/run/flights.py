"""Which windows of rows wait for which image: each is asked about once, however many rows want it."""

from __future__ import annotations

from collections.abc import Sequence

from imgtag_pipeline.batcher import Window
from imgtag_pipeline.model import Image
from imgtag_pipeline.report import Tally


class Flights:
    """The images that are being asked about, or will be, each with the windows that wait for its outcome."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._waiting: dict[str, list[Window]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._waiting

    def join(self, key: str, window: Window) -> bool:
        """Let the window wait, too, if the image is in flight; whether it is."""
        windows = self._waiting.get(key)
        if windows is None:
            return False
        windows.append(window)
        window.open += 1
        return True

    def begin(self, key: str, window: Window) -> None:
        """The image is asked about from now on, and this window waits for it."""
        self._waiting[key] = [window]
        window.open += 1

    def land(self, key: str, *, is_known: bool = False) -> None:
        """The image has an outcome in the store; `is_known`: somebody else has asked."""
        for window in self._waiting.pop(key, []):
            if is_known:
                window.known.add(key)
            window.settle()

    def give_up(self, images: Sequence[Image]) -> None:
        """These will not be asked about; those that were waited for count as unanswered."""
        for image in images:
            windows = self._waiting.pop(image.key, [])
            self._tally.unanswered += bool(windows)
            for window in windows:
                window.unanswered.add(image.key)
                window.settle()
