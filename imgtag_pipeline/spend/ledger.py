"""The ledger: what the vendor has been asked for money, by account, action and calendar month of China.

Derived from the books in which every call is entered before it is sent, so that a call of a process that died stands in
it as unknown. Relies on nothing else in the store.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.spend.files import SUFFIX, read_book
from imgtag_pipeline.spend.state import Month, State

FOLDER: Final = ".ledger"
UNKNOWN: Final = "unknown"
_COPY: Final = ".json"
_ACCOUNT: Final = re.compile(r"[^:@]*(@.*)?$")  # the end of a quota key, with the endpoint where it is not the vendor's


class Shared(Protocol):
    """A folder of a remote store, in which the hosts leave copies of their books. Its errors are `OSError`s."""

    def sizes(self, suffix: str = "") -> dict[str, int]:
        """The names there that end so."""
        ...

    def read(self, name: str) -> bytes:
        """A whole object."""
        ...

    def put(self, name: str, data: bytes) -> None:
        """A whole object, at once."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """The paid calls of one quota key (`key` names account, action and region) in one month, "2026-11".

    `account` is a short name that stands for the access key, with "@" and the endpoint where that is not the vendor's.
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


def read(folder: Path, copies: Iterable[bytes] = ()) -> list[Row]:
    """The rows of the books in `folder`, and of copies that other hosts have left; in order of account and month."""
    own = list(_books(folder))
    return _rows([*own, *_others(own, copies)])


def read_elsewhere(folder: Path, copies: Iterable[bytes]) -> list[Row]:
    """The rows of the copies that other hosts have left, without those of the books in `folder`."""
    return _rows(_others(list(_books(folder)), copies))


def counted(rows: Iterable[Row], *, key: str, address: str, month: str) -> int:
    """The calls of this quota key in this month that tiers count.

    Where the key's account is not known (yet), they are those of the one account that the ledger knows beside; with
    several accounts there, none.
    """
    found = [row for row in rows if (row.action, row.month) == (address, month)]
    account = _account(key)
    if account.partition("@")[0] == UNKNOWN:
        found = [row for row in found if _is_alike(row, key, account)]
        return sum(row.counted for row in found) if len(found) == 1 else 0
    return sum(row.counted for row in found if row.key == key)


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


def copies(shared: Shared) -> Iterator[bytes]:
    """The books that hosts have left beside a remote store."""
    for name in sorted(shared.sizes(_COPY)):
        yield shared.read(name)


def leave_copy(shared: Shared, book: Path) -> None:
    """Put what this host's book says beside the remote store, for the others to read."""
    state = read_book(book) if book.exists() else None
    if state is not None and state.months:
        shared.put(f"{book.stem}-{state.born}{_COPY}", msgspec.json.encode(state))


def _books(folder: Path) -> Iterator[State]:
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        state = read_book(path)
        if state is not None:
            yield state


def _others(own: Iterable[State], copies: Iterable[bytes]) -> list[State]:
    """Copies of other books than our own, which know better."""
    known = {state.born for state in own}
    try:
        found = [msgspec.json.decode(data, type=State) for data in copies]
    except msgspec.MsgspecError:
        raise StoreError(
            f"a host's copy of the ledger ({FOLDER}/*{_COPY} in the store) cannot be read; remove it, "
            "the host will leave another"
        ) from None
    return [state for state in found if state.born not in known]


def _rows(states: Iterable[State]) -> list[Row]:
    rows: dict[tuple[str, str, str], Row] = {}
    for state in states:
        for month, counts in state.months.items():
            row = _row(state, month, counts)
            place = (row.action, row.key, month)
            rows[place] = _sum(rows[place], row) if place in rows else row
    return [rows[place] for place in sorted(rows)]


def _row(state: State, month: str, counts: Month) -> Row:
    paid = None if counts.unpriced > 0 else counts.paid + counts.held
    account = _account(state.key) or "none"
    return Row(account, state.address, month, counts.yes, counts.no, counts.unknown + counts.open, paid, state.key)


def _account(key: str) -> str:
    found = _ACCOUNT.search(key)
    return found.group() if found else ""


def _is_alike(row: Row, key: str, account: str) -> bool:
    """The row's key is this one, but for the account; at the same endpoint."""
    is_same_place = row.account.partition("@")[2] == account.partition("@")[2]
    return is_same_place and row.key.removesuffix(row.account) == key.removesuffix(account)


def _sum(one: Row, other: Row) -> Row:
    known = one.micro_yuan is not None and other.micro_yuan is not None
    return replace(
        one,
        yes=one.yes + other.yes,
        no=one.no + other.no,
        unknown=one.unknown + other.unknown,
        micro_yuan=(one.micro_yuan or 0) + (other.micro_yuan or 0) if known else None,
    )
