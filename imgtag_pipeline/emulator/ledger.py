"""The emulator's ledger: every call that arrived, what was billed for which image, and which answers went out whole."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from imgtag_pipeline.emulator.gateway import Admission
from imgtag_pipeline.emulator.quotas import WorstWindow


@dataclass(slots=True)
class Entry:
    """One call. `is_answered` turns true once the whole answer was handed to the operating system.

    `about`: the object, of a call on object storage.
    """

    at: float
    arrived: float
    family: str
    action: str
    account: str
    images: tuple[str, ...]
    code: str = ""
    status: int = 0
    request_id: str = ""
    is_billed: bool = False
    is_answered: bool = False
    about: str = ""


class Ledger:
    """Counts everything and keeps the last `kept` entries; the counts never forget until `clear`."""

    def __init__(self, kept: int = 100_000) -> None:
        self._kept = kept
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.entries: deque[Entry] = deque(maxlen=self._kept)
        self.calls = 0
        self.by_code: Counter[str] = Counter()
        self.by_action: Counter[tuple[str, str]] = Counter()
        self.billed_by_action: Counter[tuple[str, str]] = Counter()
        self.calls_by_image: Counter[str] = Counter()
        self.billed_by_image: Counter[str] = Counter()
        self.answered_by_image: Counter[str] = Counter()
        self._worst: dict[tuple[str, str], WorstWindow] = {}

    def open(self, at: float, arrived: float, family: str, admission: Admission) -> Entry:
        """Enter a call that was admitted; it counts towards the worst second of its account and action."""
        entry = Entry(at, arrived, family, admission.action, admission.account, admission.images)
        entry.about = admission.about
        self.entries.append(entry)
        self.calls += 1
        self.by_action[family, admission.action] += 1
        for image in admission.images:
            self.calls_by_image[image] += 1
        if admission.is_limited:
            key = (admission.account, admission.action)
            window = self._worst.get(key)
            if window is None:
                window = self._worst[key] = WorstWindow()
            window.add(arrived)
        return entry

    def close(self, entry: Entry, *, code: str, status: int, request_id: str, is_billed: bool) -> None:
        """Say how the call ended at the vendor, before anything is sent."""
        entry.code, entry.status, entry.request_id, entry.is_billed = code, status, request_id, is_billed
        self.by_code[code] += 1
        if is_billed:
            self.billed_by_action[entry.family, entry.action] += 1
            for image in entry.images:
                self.billed_by_image[image] += 1

    def answered(self, entry: Entry) -> None:
        """Say that the answer is sent whole; only answers without an error count for their images."""
        entry.is_answered = True
        if entry.code == "ok":
            for image in entry.images:
                self.answered_by_image[image] += 1

    def unanswered(self, entry: Entry) -> None:
        """Take `answered` back: the connection was gone."""
        entry.is_answered = False
        if entry.code == "ok":
            for image in entry.images:
                self.answered_by_image[image] -= 1

    @property
    def billed(self) -> int:
        """Calls billed in all."""
        return sum(list(self.billed_by_action.values()))

    def worst(self) -> dict[str, int]:
        """The most calls in any one second, by "account/action"; throttled calls included."""
        return {f"{account}/{action}": window.worst for (account, action), window in list(self._worst.items())}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def summary(self) -> dict[str, Any]:
        """Everything counted, as JSON-ready data; may be asked for from another thread."""
        return {
            "calls": self.calls,
            "billed": self.billed,
            "by_code": dict(self.by_code),
            "by_action": {f"{family}/{action}": n for (family, action), n in list(self.by_action.items())},
            "billed_by_action": {
                f"{family}/{action}": n for (family, action), n in list(self.billed_by_action.items())
            },
            "calls_by_image": dict(self.calls_by_image),
            "billed_by_image": dict(self.billed_by_image),
            "answered_by_image": dict(self.answered_by_image),
            "worst_second": self.worst(),
        }
