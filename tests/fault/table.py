"""The table of figures that the fault suite prints at its end: what was tried, how often, and what came out."""

from collections.abc import Iterable

HEAD = ("what was done", "how often", "what came out")


def lines(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """The rows under a head, in columns."""
    rows = [HEAD, *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    text = [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]}" for row in rows]
    return [text[0], "-" * max(map(len, text)), *text[1:]]
