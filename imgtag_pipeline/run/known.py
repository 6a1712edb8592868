"""Which stored outcomes this run keeps: all, all but failures, or all but failures that it can mend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa


class Answers(Protocol):
    """The part of the tag store that is read here."""

    def lookup(self, keys: Sequence[str], *, retry_failed: bool = False) -> Sequence[str | None]:
        """For each key its status, None where it has to be asked."""
        ...

    def take(self, keys: Sequence[str]) -> pa.RecordBatch:
        """The outcomes of these keys, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Known:
    """`retry_failed` asks again about every failure of an earlier run, `retry_codes` about those with such a code."""

    store: Answers
    retry_failed: bool = False
    retry_codes: frozenset[str] = field(default_factory=frozenset)

    @property
    def retries(self) -> bool:
        """Whether some failures are asked about again."""
        return self.retry_failed or bool(self.retry_codes)

    def lookup(self, keys: Sequence[str]) -> list[str | None]:
        """For each key its status, None where it is asked; may read a part of the store."""
        found = list(self.store.lookup(keys, retry_failed=self.retry_failed))
        if self.retry_failed or not self.retry_codes:
            return found
        failed = [key for key, status in zip(keys, found, strict=True) if status == "failed"]
        earlier = self.store.lookup(failed, retry_failed=True) if failed else []
        failed = [key for key, status in zip(failed, earlier, strict=True) if status is None]
        codes = self.store.take(failed).column("error_code").to_pylist() if failed else []
        again = {key for key, code in zip(failed, codes, strict=True) if code in self.retry_codes}
        return [None if key in again else status for key, status in zip(keys, found, strict=True)]
