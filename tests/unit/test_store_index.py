"""The index and the rows behind it: the union by key, whatever the order, the number of sources, and the hashes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtag_pipeline.checkpoint.cache import Cache, Spill
from imgtag_pipeline.checkpoint.catalog import Catalog
from imgtag_pipeline.checkpoint.hash import DTYPE, digest, digests
from imgtag_pipeline.checkpoint.index import EMPTY, FAILED, OK, STATUSES, Entry, Index, SortedRun, level_of
from imgtag_pipeline.checkpoint.row_blocks import MemoryPiece, RowBlock
from imgtag_pipeline.checkpoint.rows import outcomes_to_batch
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Outcome, Tag

KEYS = [f"k{number}" for number in range(8)]
ROWS = st.tuples(st.sampled_from(KEYS), st.integers(0, 2), st.integers(1, 5), st.integers(1, 4))


def best(rows) -> dict[str, tuple[int, int, int]]:
    """The rule said plainly: a success beats a failure, the newest wins, attempts are the most seen."""
    winners: dict[str, tuple[int, int, int]] = {}
    for place, (key, status, at, _) in enumerate(rows, 1):
        old = winners.get(key)
        if old is None or ((status > 0), at) >= ((old[0] > 0), old[1]):
            winners[key] = (status, at, place)
    return winners


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(ROWS, st.integers(0, 3)), max_size=30))
def test_the_union_is_the_same_however_it_came(rows):
    """Rows that came one by one, in stored levels, or settled in between: the winner of each key is the same."""
    index = Index()
    for place, ((key, status, at, attempts), way) in enumerate(rows, 1):
        if way == 0:
            columns = (np.array([value]) for value in (status, at, place, attempts))
            index.add_level(level_of([key], *columns))
        else:
            index.add_recent(way, [(key, Entry(status, at, place, attempts))])
        if way == 3:
            index.settle(way)
    expected = best([row for row, _ in rows])
    found = index.find(KEYS)
    for i, key in enumerate(KEYS):
        if key not in expected:
            assert found.status[i] == -1
            continue
        status, at, _ = expected[key]
        assert (found.status[i] > 0, found.at[i]) == (status > 0, at)
        assert found.attempts[i] == max(attempts for (k, _, _, attempts), _ in rows if k == key)
    assert len(index.winners()) == len(expected)


def test_keys_whose_hashes_begin_alike_are_told_apart():
    """Two keys that share the first 64 bits of their hashes each find their own row."""
    high = np.array([5, 7, 7, 7, 9], np.uint64)
    low = np.array([0, 1, 2, 3, 0], np.uint32)
    rest = (np.full(5, OK, np.int8), np.arange(5), np.arange(5, dtype=np.uint64), np.ones(5, np.uint16))
    level = SortedRun(high, low, *rest)
    asked = np.array([(7, 3), (7, 9), (7, 1), (9, 0), (9, 1), (1, 0), (99, 0)], DTYPE)
    assert level.find(asked).tolist() == [3, -1, 1, 4, -1, -1, -1]


def test_hashes_are_the_same_one_by_one_and_together():
    """A claim's hash is the index's hash."""
    assert digests(["a", "ü"]).tobytes() == digest("a") + digest("ü")


def batch(*keys: str) -> pa.RecordBatch:
    outcomes = [Outcome(key, "u", "ok", (Tag(f"tag-{key}", confidence=0.5),)) for key in keys]
    return outcomes_to_batch(outcomes, run="r", at=[1] * len(keys))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60))
@settings(max_examples=30, deadline=None)
def test_rows_keep_their_numbers_while_batches_merge(sizes):
    """However many small batches a source was fed with, row n is the n-th row, and the pieces stay few."""
    source = RowBlock()
    names = [f"k{n}" for n in range(sum(sizes))]
    start = 0
    for size in sizes:
        assert source.append(batch(*names[start : start + size])) == start
        start += size
    rows = np.random.default_rng(1).permutation(len(names))
    assert source.take(rows).column("key").to_pylist() == [names[row] for row in rows]
    assert len(source.batches()) <= 48


def test_a_source_is_not_replaced_by_fewer_rows():
    """Rows are never given up for a part that holds fewer."""
    source = RowBlock()
    source.append(batch("a", "b"))
    with pytest.raises(StoreError, match="kept"):
        source.replace([MemoryPiece(batch("a"))])
    assert source.take(np.array([1])).column("key").to_pylist() == ["b"]


def test_a_wrong_row_is_never_returned():
    """If index and rows disagree, taking is an error."""
    shelf = Catalog([], cache_bytes=0)
    number = shelf.new_source()
    shelf.append(number, batch("a"))
    shelf.announce(number, 0, ["b"], ["ok"], [1], [1])
    with pytest.raises(StoreError, match="disagree"):
        shelf.take(["b"])


def test_row_groups_that_keep_coming_back_are_decoded_no_more():
    """With too little memory for a shuffled input, each row group is decoded a few times at most."""
    groups = {number: batch(*(f"k{number}-{i}" for i in range(50))) for number in range(6)}
    cache = Cache(max_bytes=2 * groups[0].nbytes)
    loads = []

    def load(number: int):
        loads.append(number)
        return groups[number]

    for _ in range(20):
        for number, expected in groups.items():
            assert cache.get(("part", number), lambda number=number: load(number)).equals(expected)
    assert len(loads) <= 3 * len(groups)


def test_spilled_rows_outlast_their_chunk():
    """Rows in a spill file stay readable when the next file has begun."""
    spill = Spill(chunk_bytes=10_000)
    kept = [spill.keep(batch(*(f"k{n}-{i}" for i in range(20)))) for n in range(12)]
    assert [rows.column("key")[0].as_py() for rows in kept] == [f"k{n}-0" for n in range(12)]


def test_the_statuses_have_their_codes():
    """The codes that levels store are fixed."""
    assert (STATUSES[FAILED], STATUSES[EMPTY], STATUSES[OK]) == ("failed", "empty", "ok")
