"""The table of figures that the fault suite prints at its end: what was tried, how often, and what came out."""

from collections.abc import Iterable, Sequence

HEAD = ("what was done", "how often", "what came out")


def lines(rows: Iterable[Sequence]) -> list[str]:
    """The rows under a head, in columns. Rows with a number are one line, by what was done: `{count}`, `{worst}`."""
    numbers: dict[str, list[float]] = {}
    plain: dict[tuple[str, ...], str] = {}
    for what, how_often, outcome, number in rows:
        plain[what, how_often, outcome] = what if number is not None else ""
        if number is not None:
            numbers.setdefault(what, []).append(number)
    shown = [HEAD]
    for row, what in plain.items():
        found = numbers.get(what, [0])
        shown.append(tuple(text.format(count=len(found), worst=f"{max(found):g}") if what else text for text in row))
    widths = [max(len(row[column]) for row in shown) for column in range(2)]
    text = [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]}" for row in shown]
    return [text[0], "-" * max(map(len, text)), *text[1:]]
