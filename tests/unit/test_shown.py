"""How the command line shows the ledger to a person."""

from imgtag_pipeline.cli.render import ledger_lines

ROW = {
    "account": "91c477bfb062",
    "action": "viapi/TaggingImage",
    "month": "2026-11",
    "yes": 1200,
    "no": 3,
    "unknown": 4,
    "yuan": 3.01,
    "key": "viapi:TaggingImage:cn-shanghai:91c477bfb062",
}


def shown(*rows):
    return [line.split() for line in ledger_lines([{**ROW, **row} for row in rows])]


def test_one_row_is_shown_without_a_sum():
    """A table as wide as what is in it, and what the words mean."""
    head, row, _, *legend = shown({})
    assert head[:3] == ["month", "account", "action"]
    assert row == ["2026-11", "91c477bfb062", "viapi/TaggingImage", "1,200", "4", "3", "3.0100"]
    assert len(legend) == 3


def test_sums_say_what_is_not_known():
    """An unknown price makes the sum a part of it."""
    assert shown({}, {"action": "tencent_v2", "yuan": None})[3] == [
        "in",
        "all",
        "2,400",
        "8",
        "6",
        "3.0100",
        "+",
        "unknown",
    ]
    assert shown({"yuan": None}, {"month": "2026-12", "yuan": None})[3][-1] == "unknown"


def test_the_same_action_in_two_regions_is_told_apart():
    """By the quota key, which names the region."""
    keys = [row[2] for row in shown({}, {"key": "viapi:TaggingImage:cn-huhehaote:91c477bfb062"})[1:3]]
    assert keys == ["viapi:TaggingImage:cn-shanghai:91c477bfb062", "viapi:TaggingImage:cn-huhehaote:91c477bfb062"]


def test_an_empty_ledger_says_so():
    """Instead of a head without rows."""
    assert list(ledger_lines([])) == ["no paid calls are on record in this tag store"]
