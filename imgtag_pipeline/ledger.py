"""The ledger: what the vendor has been asked for money, by account, action and calendar month of China.

Derived from the books in which every call is entered before it is sent, so that a call of a process that died stands in
it as unknown. Relies on nothing else in the store.
"""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from imgtag_pipeline.caps.files import SUFFIX, read_book
from imgtag_pipeline.caps.state import Month, State
from imgtag_pipeline.errors import StoreError

FOLDER: Final = ".ledger"
_COPY: Final = ".json"


@dataclass(frozen=True, slots=True)
class Row:
    """The paid calls of one quota key (`key` names account, action and region) in one month, "2026-11".

    `yes`, `no` and `unknown` count calls by how the vendor bills them; `unknown` includes calls without an answer yet,
    those of runs that died included. `micro_yuan` is what they come to at list price, None where a price is
    unknown.
    """

    account: str
    action: str
    month: str
    yes: int
    no: int
    unknown: int
    micro_yuan: int | None
    key: str

    @property
    def counted(self) -> int:
        """The calls that tiers count."""
        return self.yes + self.unknown


def name_of(key: str, address: str) -> str:
    """The name of the book of a quota key: readable, and one for each."""
    digest = hashlib.sha256(f"{address}\n{key}".encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9_.]+', '-', address).strip('-.') or 'unnamed'}-{digest}"


def read(folder: Path, others: Iterable[bytes] = ()) -> list[Row]:
    """The rows of the books in `folder`, and of copies that other hosts have left; in order of account and month."""
    rows: dict[tuple[str, str, str], Row] = {}
    for state in [*_books(folder), *_copies(others)]:
        for month, counts in state.months.items():
            row = _row(state, month, counts)
            place = (row.action, row.key, month)
            rows[place] = _sum(rows[place], row) if place in rows else row
    return [rows[place] for place in sorted(rows)]


def counted(rows: Iterable[Row], *, key: str, address: str, month: str) -> int:
    """The calls of this quota key in this month that tiers count."""
    return sum(row.counted for row in rows if (row.key, row.action, row.month) == (key, address, month))


def plain(row: Row) -> dict[str, Any]:
    """JSON-ready data."""
    yuan = None if row.micro_yuan is None else row.micro_yuan / 1_000_000
    return {
        "account": row.account,
        "action": row.action,
        "month": row.month,
        "yes": row.yes,
        "no": row.no,
        "unknown": row.unknown,
        "yuan": yuan,
        "key": row.key,
    }


def copies(filesystem: Any, path: str, *, host: str) -> Iterator[bytes]:
    """The books that other hosts have left beside a remote store."""
    try:
        names = filesystem.ls(f"{path.rstrip('/')}/{FOLDER}", detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if name.endswith(_COPY) and not name.rpartition("/")[2].startswith(host):
            yield filesystem.cat_file(name)


def leave_copy(filesystem: Any, path: str, book: Path, *, host: str) -> None:
    """Put what this host's book says beside the remote store, for the others to read."""
    state = read_book(book) if book.exists() else None
    if state is not None and state.months:
        target = f"{path.rstrip('/')}/{FOLDER}/{host}-{book.stem}{_COPY}"
        filesystem.pipe_file(target, msgspec.json.encode(state))


def host_name(folder: Path) -> str:
    """A short name for this host and its folder of books."""
    return hashlib.sha256(f"{socket.gethostname()}\n{folder}".encode()).hexdigest()[:12]


def _books(folder: Path) -> Iterator[State]:
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        state = read_book(path)
        if state is not None:
            yield state


def _copies(others: Iterable[bytes]) -> Iterator[State]:
    for data in others:
        try:
            yield msgspec.json.decode(data, type=State)
        except msgspec.MsgspecError:
            raise StoreError(
                "a host's copy of the ledger cannot be read; remove it, the host will leave another"
            ) from None


def _row(state: State, month: str, counts: Month) -> Row:
    is_open = counts.sent - counts.yes - counts.no - counts.unknown
    paid = None if counts.unpriced else counts.paid + counts.held
    account = state.key.rpartition(":")[2] or "none"
    return Row(account, state.address, month, counts.yes, counts.no, counts.unknown + is_open, paid, state.key)


def _sum(one: Row, other: Row) -> Row:
    known = one.micro_yuan is not None and other.micro_yuan is not None
    return replace(
        one,
        yes=one.yes + other.yes,
        no=one.no + other.no,
        unknown=one.unknown + other.unknown,
        micro_yuan=(one.micro_yuan or 0) + (other.micro_yuan or 0) if known else None,
    )
