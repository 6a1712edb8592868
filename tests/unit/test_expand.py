"""Stored outcomes become long, wide and nested tables; every input row appears in each."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from imgtag_pipeline.core import schema
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.pipeline import expand
from imgtag_pipeline.pipeline.expand import View

BOX = {"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}


def tag(name, confidence=None, **more):
    return {"tag": name, "confidence": confidence, "kind": "label", **more}


def outcomes(*found):
    """Outcomes of images: a list of tags, [] for nothing found, an error code for a failure."""
    rows = []
    for number, what in enumerate(found):
        row = {"key": f"k{number}", "url": f"u{number}", "request_id": f"r{number}"}
        if isinstance(what, str):
            row |= {"status": "failed", "error_code": what, "error": f"it said {what}"}
        else:
            row |= {"status": "ok" if what else "empty", "tags": what}
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, schema=schema.OUTCOME)


def positions(*index):
    return pa.array(index, pa.int64())


def rows_of(count, **columns):
    return pa.record_batch(columns or {"id": pa.array(range(count), pa.int64())})


def long_of(found, index, *, rows=None, view=expand.ALL):
    urls = pa.array([None if at is None else f"u{at}" for at in index.to_pylist()], pa.string())
    return expand.long(rows or rows_of(len(index)), urls, found, index, provider="local", view=view)


FOUND = outcomes([tag("cat", 0.9, bbox=BOX), tag("sofa", 0.4, extra='{"id":7}')], [], "HTTP404")
INDEX = positions(0, None, 1, 2, 0)


def test_every_row_appears_once_per_tag_or_once_without():
    """Two tags are two rows; nothing found, a failure and a row without URL are one row each, told apart by status."""
    table = long_of(FOUND, INDEX)
    seen = [(row["id"], row["rank"], row["tag"], row["status"]) for row in table.to_pylist()]
    assert seen == [
        (0, 1, "cat", "ok"),
        (0, 2, "sofa", "ok"),
        (1, None, None, "skipped"),
        (2, None, None, "empty"),
        (3, None, None, "failed"),
        (4, 1, "cat", "ok"),
        (4, 2, "sofa", "ok"),
    ]
    assert table.schema.names == ["id", *schema.LONG.names]


def test_long_row_carries_all_that_was_said():
    """Box, extra, confidence, provider, request id and the error's code and words are beside the tag."""
    table = long_of(FOUND, INDEX).to_pylist()
    assert table[0]["bbox"] == BOX
    assert table[1]["extra"] == '{"id":7}'
    assert table[0]["confidence"] == pytest.approx(0.9)
    assert (table[0]["provider"], table[0]["request_id"], table[0]["url"]) == ("local", "r0", "u0")
    assert (table[4]["error_code"], table[4]["error"], table[4]["request_id"]) == ("HTTP404", "it said HTTP404", "r2")
    assert table[2]["error_code"] == "NullUrl"
    assert "blank" in table[2]["error"]


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        (View(), ["a", "b", "c", "d"]),
        (View(min_confidence=0.7), ["a", "b", "d"]),
        (View(top_k=2), ["a", "b"]),
        (View(min_confidence=0.75, top_k=2), ["a", "d"]),
        (View(min_confidence=1, top_k=1), ["d"]),
    ],
)
def test_view_shows_good_tags_first_and_unknown_is_not_low(view, shown):
    """0.7 as stored passes 0.7, a tag without confidence passes always, and top_k counts what is left."""
    found = outcomes([tag("a", 0.9), tag("b", 0.7), tag("c", 0.1), tag("d")])
    table = long_of(found, positions(0), view=view)
    assert table.column("tag").to_pylist() == shown
    assert table.column("rank").to_pylist() == list(range(1, len(shown) + 1))


def test_hidden_tags_leave_an_answered_row():
    """An image whose tags are all below the limit is one row, still "ok"; wide shows 0 and nested an empty list."""
    found, view = outcomes([tag("a", 0.2)]), View(min_confidence=0.5)
    assert [(row["tag"], row["status"]) for row in long_of(found, positions(0), view=view).to_pylist()] == [
        (None, "ok")
    ]
    wide = expand.wide(rows_of(1), found, positions(0), vocabulary=["a"], view=view)
    assert wide.column("tag_a").to_pylist() == [0]
    nested = expand.nested(rows_of(1), found, positions(0), view=view)
    assert nested.select(["tags", "status"]).to_pylist() == [{"tags": [], "status": "ok"}]


@pytest.mark.parametrize("wrong", [{"min_confidence": 1.5}, {"min_confidence": -0.1}, {"top_k": 0}, {"top_k": 1.5}])
def test_impossible_views_are_refused(wrong):
    """A limit outside 0..1 and a top_k below 1 are the caller's mistakes."""
    with pytest.raises(ConfigError, match="give a"):
        View(**wrong)


def test_wide_tells_not_seen_from_no_answer():
    """0 where a successful answer has no such tag, null where there is no answer."""
    wide = expand.wide(rows_of(5), FOUND, INDEX, vocabulary=["sofa", "cat", "dog"])
    assert wide.schema.names == ["id", "tag_sofa", "tag_cat", "tag_dog", "status", "error_code"]
    assert wide.column("tag_cat").to_pylist() == [pytest.approx(0.9), None, 0, None, pytest.approx(0.9)]
    assert wide.column("tag_dog").to_pylist() == [0, None, 0, None, 0]
    assert wide.column("status").to_pylist() == ["ok", "skipped", "empty", "failed", "ok"]
    assert wide.column("error_code").to_pylist() == [None, "NullUrl", None, "HTTP404", None]


def test_a_wide_cell_is_the_confidence_of_the_long_table():
    """Where a tag has a share as well, the cell is its confidence; `value="measure"` asks for the share."""
    found = outcomes([tag("black", 0.8166, measure=0.1872), tag("present")])
    for value, black in (("confidence", 0.8166), ("measure", 0.1872)):
        wide = expand.wide(rows_of(1), found, positions(0), vocabulary=["black", "present"], value=value)
        assert wide.column("tag_black").to_pylist() == [pytest.approx(black)]
        assert wide.column("tag_present").to_pylist() == [1]


def test_wide_number_is_confidence_then_measure_then_one():
    """Without a confidence an operation's own measure stands there, without a number 1; twice is the larger."""
    found = outcomes([tag("red", measure=0.25), tag("old"), tag("cat", 0.3), tag("cat", 0.8), tag("cat", 0.5)])
    wide = expand.wide(rows_of(1), found, positions(0), vocabulary=["red", "old", "cat"])
    assert [wide.column(i)[0].as_py() for i in (1, 2, 3)] == [0.25, 1, pytest.approx(0.8)]


def test_vocabulary_is_the_frequent_tags_first_then_by_name():
    """The order of tag columns is the same whenever the same images are labelled."""
    found = outcomes([tag("b"), tag("c")], [tag("a"), tag("c")], "x")
    assert expand.vocabulary_of(found) == ("c", "a", "b")
    assert expand.vocabulary_of([found, found.slice(1, 1)]) == ("c", "a", "b")
    assert expand.vocabulary_of(pa.Table.from_batches([found]), View(top_k=1)) == ("a", "b")


def test_nested_keeps_lists_for_answers_only():
    """Nothing found is an empty list; a failed or skipped row has none."""
    nested = expand.nested(rows_of(5), FOUND, INDEX).to_pylist()
    assert [None if row["tags"] is None else [t["tag"] for t in row["tags"]] for row in nested] == [
        ["cat", "sofa"],
        None,
        [],
        None,
        ["cat", "sofa"],
    ]
    assert nested[0]["tags"][0]["bbox"] == BOX
    assert [t["rank"] for t in nested[4]["tags"]] == [1, 2]
    assert nested[3]["error"] == "it said HTTP404"


@pytest.mark.parametrize(
    ("names", "shape", "vocabulary"),
    [
        (["id", "tag"], "long", None),
        (["status"], "wide", ["a"]),
        (["tag_a"], "wide", ["a"]),
        (["tag_zzz"], "wide", None),
        (["tags"], "nested", None),
    ],
)
def test_columns_that_would_collide_are_refused_beforehand(names, shape, vocabulary):
    """A caller's column with the name of ours is said before any call is made."""
    with pytest.raises(ConfigError, match="rename"):
        expand.check_columns(names, shape=shape, vocabulary=vocabulary)


def test_columns_that_do_not_collide_are_fine():
    """A long result does not hold the caller's other columns; a tag_ column outside the vocabulary is the caller's."""
    expand.check_columns(["id"], shape="long")
    expand.check_columns(["tag_b", "tag"], shape="wide", vocabulary=["a"])


@pytest.mark.parametrize("vocabulary", [["a", "a"], "cat"])
def test_vocabulary_is_a_list_of_different_tags(vocabulary):
    """A tag named twice, or a text for a list, is the caller's mistake."""
    with pytest.raises(ConfigError, match="vocabulary"):
        expand.wide_schema(pa.schema([]), vocabulary)


def test_unknown_shape_is_refused_with_the_known_ones():
    """The message names the three shapes."""
    with pytest.raises(ConfigError, match="long, wide, nested"):
        expand.check_columns([], shape="tall")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["a", None], pa.string_view()),
        ([b"a", None], pa.binary_view()),
        (["a", "b"], pa.dictionary(pa.int8(), pa.string())),
        (["a", "b"], pa.run_end_encoded(pa.int32(), pa.string())),
        ([[1], None], pa.large_list(pa.int8())),
        ([{"a": 1}, None], pa.struct([("a", pa.int8())])),
        ([[("k", 1)], []], pa.map_(pa.string(), pa.int8())),
        ([None, None], pa.null()),
        ([1, None], pa.timestamp("ns", tz="Asia/Shanghai")),
    ],
)
def test_kept_columns_of_any_type_are_repeated(values, kind):
    """A caller's column keeps its type and its value on every row of its image."""
    column = pa.array(values, kind)
    table = long_of(outcomes([tag("x"), tag("y")], []), positions(0, 1), rows=rows_of(2, own=column))
    expected = column.to_pylist()
    assert table.column("own").to_pylist() == [expected[0], expected[0], expected[1]]
    assert table.schema.field("own").type == kind


def test_kept_columns_may_come_as_a_table_of_many_chunks():
    """A table whose columns are in pieces is as good as a batch."""
    table = pa.concat_tables([pa.table({"id": [1]}), pa.table({"id": [2]})])
    assert long_of(outcomes([tag("x")]), positions(0, None), rows=table).column("id").to_pylist() == [1, 2]
    assert expand.wide(table, outcomes([tag("x")]), positions(0, None), vocabulary=["x"]).num_rows == 2


def test_without_kept_columns_only_ours_stand_there():
    """A long table without index or key columns begins with the URL."""
    table = long_of(FOUND, INDEX, rows=rows_of(5).select([]))
    assert table.schema == schema.LONG
    assert table.num_rows == 7


@pytest.mark.parametrize("index", [(), (None, None)])
def test_nothing_to_show_has_the_same_columns(index):
    """No rows at all, or only rows without URL, give the fixed schema."""
    at, none = positions(*index), FOUND.slice(0, 0)
    assert long_of(none, at).schema == expand.long_schema(pa.schema([("id", pa.int64())]))
    assert expand.wide(rows_of(len(at)), none, at, vocabulary=["a"]).column("tag_a").to_pylist() == [None] * len(at)
    assert expand.nested(rows_of(len(at)), none, at).column("tags").to_pylist() == [None] * len(at)


def test_index_of_pandas_survives_where_rows_stay_rows():
    """What pandas noted about its index is kept for wide and nested, other tools' notes and long's are not."""
    kept = pa.schema([("id", pa.int64())], metadata={"pandas": "{}", "huggingface": "{}"})
    assert expand.nested_schema(kept).metadata == {b"pandas": b"{}"}
    assert expand.wide_schema(kept, []).metadata == {b"pandas": b"{}"}
    assert expand.long_schema(kept).metadata is None


NAMES = st.sampled_from(["cat", "dog", "sofa", "red", "天空"])
CONFIDENCES = st.none() | st.floats(0, 1, width=32)
TAGS = st.lists(st.builds(tag, NAMES, CONFIDENCES), max_size=4, unique_by=lambda t: t["tag"])
IMAGES = st.lists(TAGS | st.sampled_from(["HTTP404", "Timeout"]), max_size=5)
VIEWS = st.builds(View, st.none() | st.floats(0, 1, width=32), st.none() | st.integers(1, 3))


@st.composite
def jobs(draw):
    images = draw(IMAGES)
    known = st.integers(0, len(images) - 1) if images else st.nothing()
    return images, draw(st.lists(st.none() | known, max_size=8)), draw(VIEWS)


def shown_by_hand(tags, view):
    passed = [t for t in tags if t["confidence"] is None or t["confidence"] >= (view.min_confidence or 0)]
    return passed[: view.top_k]


@given(jobs())
@settings(max_examples=150, deadline=None)
def test_shapes_say_the_same_and_lose_no_row(job):
    """Long is what a loop over the rows would write; wide is its pivot and nested its grouping; order is kept."""
    images, index, view = job
    # A slice of a larger batch, as a window of the store's may be.
    found = outcomes("before", *images).slice(1)
    at = positions(*index)
    rows = pa.record_batch({"id": pa.array(range(len(index)), pa.int64())})
    long = long_of(found, at, rows=rows, view=view).to_pylist()
    expected = []
    for row, where in enumerate(index):
        shown = [] if where is None or isinstance(images[where], str) else shown_by_hand(images[where], view)
        expected += [(row, n, t["tag"], t["confidence"]) for n, t in enumerate(shown, 1)] or [(row, None, None, None)]
    assert [(r["id"], r["rank"], r["tag"], r["confidence"]) for r in long] == expected

    vocabulary = expand.vocabulary_of(found, view)
    wide = expand.wide(rows, found, at, vocabulary=vocabulary, view=view).to_pylist()
    nested = expand.nested(rows, found, at, view=view).to_pylist()
    assert [row["id"] for row in wide] == [row["id"] for row in nested] == list(range(len(index)))
    for row, (flat, grouped) in enumerate(zip(wide, nested, strict=True)):
        mine = [r for r in long if r["id"] == row]
        assert {r["status"] for r in mine} == {flat["status"]} == {grouped["status"]}
        is_answer = flat["status"] in ("ok", "empty")
        seen = {r["tag"]: 1 if r["confidence"] is None else r["confidence"] for r in mine if r["tag"]}
        assert {name: flat[f"tag_{name}"] for name in vocabulary} == {
            name: seen.get(name, 0) if is_answer else None for name in vocabulary
        }
        listed = None if grouped["tags"] is None else [(t["rank"], t["tag"]) for t in grouped["tags"]]
        assert listed == ([(r["rank"], r["tag"]) for r in mine if r["tag"]] if is_answer else None)


@given(jobs())
@settings(max_examples=40, deadline=None)
def test_parquet_keeps_every_shape_whole(job):
    """Written to Parquet and read again, each shape is equal, schema and all."""
    images, index, view = job
    found, at, rows = outcomes(*images), positions(*index), rows_of(len(index))
    vocabulary = ["cat", "天空"]
    for batch in (
        long_of(found, at, rows=rows, view=view),
        expand.wide(rows, found, at, vocabulary=vocabulary, view=view),
        expand.nested(rows, found, at, view=view),
    ):
        batch.validate(full=True)
        file = io.BytesIO()
        parquet.write_table(pa.Table.from_batches([batch]), file)
        again = parquet.read_table(file)
        assert again.schema == batch.schema
        assert again.equals(pa.Table.from_batches([batch]))


def test_a_large_window_is_the_sum_of_its_parts():
    """Ten thousand rows at once give the same table as the same rows in two halves."""
    found = outcomes(*([tag(f"t{n % 7}", 0.5)] if n % 5 else [] for n in range(500)))
    index, rows = pa.array(np.random.default_rng(0).integers(0, 500, 10_000), pa.int64()), rows_of(10_000)
    whole = long_of(found, index)
    halves = [long_of(found, index.slice(start, 5_000), rows=rows.slice(start, 5_000)) for start in (0, 5_000)]
    assert pa.Table.from_batches(halves).combine_chunks().equals(pa.Table.from_batches([whole]))


def test_a_nested_table_is_the_same_before_and_after_a_file():
    """To the name of a list's values, which Parquet calls "element" whatever it was."""
    table = pa.Table.from_batches([expand.nested(rows_of(5), FOUND, INDEX)])
    file = io.BytesIO()
    parquet.write_table(table, file)
    again = parquet.read_table(file)
    assert str(again.schema) == str(table.schema)
    assert again.equals(table, check_metadata=True)
