"""Keys that an older version wrote, as they are spelled today.

Until references were normalised, a reference was its own key but for its signature. Such rows are found by their key
of today as well; what is stored is not rewritten, so that versions may share a store. Keys that the caller named
(`key="sku"`) are no references and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from imgtag_pipeline.urls import file_changed_at

KeyOf = Callable[[str], str]

# A fact in the header of a journal whose keys are normalised; those of older versions have none.
SPELLING: Final = "keys"
NORMAL: Final = 2


def key_today(key: str, key_of: KeyOf) -> str:
    """The key of today for an older key that was a reference; what no reference can be stays as it is."""
    try:
        return key_of(key)
    except Exception:  # a foreign provider's function, asked about what it may never have seen
        return key


def respelled(
    keys: Sequence[str], moments: Sequence[int | None], urls: Callable[[], Sequence[str | None]], key_of: KeyOf
) -> list[tuple[int, str]]:
    """Of these stored rows those that have another key today: (row, key).

    `urls` are the rows' references, asked for where needed: a row whose key differs from it has a key that was named by
    the caller, or that is normalised already. A local file that was changed after its answer is another image today.
    """
    found = [(row, now) for row, key in enumerate(keys) if (now := key_today(key, key_of)) != key]
    if not found:
        return []
    references = urls()
    return [
        (row, now)
        for row, now in found
        if references[row] == keys[row] and (file_changed_at(now) or 0) <= (moments[row] or 0)
    ]
