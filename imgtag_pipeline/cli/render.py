"""How the command line shows plain data to a person: short, aligned, only what there is to say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from imgtag_pipeline.run.report import counted

Data = Mapping[str, Any]


def provider_lines(rows: Sequence[Data]) -> Iterator[str]:
    """One line each: the address, what it tags, how the image is handed over, what it costs."""
    wide = max(len(row["address"]) for row in rows)
    for row in rows:
        title = row["title"].partition("(")[0].partition(";")[0].strip()
        price = str(row["price"]).partition(";")[0].partition(", then")[0].partition(", 0")[0].partition(", falling")[0]
        needs = f" (needs {', '.join(f'{name}=' for name in row['required'])})" if row.get("required") else ""
        yield f"{row['address']:<{wide}}  {' or '.join(row['image_as']):<13}  {price:<41}  {title}{needs}"
    yield ""
    yield "Limits, documentation and options of each: imgtag providers --json"


def status_lines(rows: Sequence[Data]) -> Iterator[str]:
    """A paragraph for each provider and set of options that the store knows answers of."""
    if not rows:
        yield "nothing yet: no run has written to this tag store"
    for row in rows:
        own = {name: value for name, value in row["identity"].items() if name != "provider" and value is not None}
        yield row["address"] + "".join(f" {name}={value}" for name, value in own.items())
        if row["problem"]:
            yield f"  cannot be read: {row['problem']}"
            continue
        failed = sum(row["failed"].values())
        yield f"  images  {row['images']:,}: {row['ok']:,} with tags, {row['empty']:,} without, {failed:,} failed"
        most = max((len(f"{count:,}") for count in row["failed"].values()), default=0)
        for code, count in sorted(row["failed"].items(), key=lambda item: (-item[1], item[0])):
            yield f"  failed  {count:>{most},} {code}"
        if tried := [f"{count:,} in {counted(runs, 'run')}" for runs, count in sorted(row["failed_attempts"].items())]:
            yield f"  tried   the failed ones: {', '.join(tried)}; `imgtag retry` asks about them again"
        if row["possibly_billed"]:
            yield f"  sent    {len(row['possibly_billed']):,} without an answer, possibly billed; a run asks again"
        if row["unfinished_jobs"]:
            yield f"  jobs    {row['unfinished_jobs']:,} at the vendor; the next run fetches their results"
        if row["oldest"] and row["newest"]:
            yield f"  asked   {_moment(row['oldest'])} to {_moment(row['newest'])} UTC"
        yield f"  files   {row['parts']:,} in {row['folder']}, {size(row['bytes'])}"
        if row["writers"]:
            yield f"  now     {row['writers']} at work in it"


def compact_lines(rows: Sequence[Data]) -> Iterator[str]:
    """What became of each folder."""
    if not rows:
        yield "nothing to merge: no run has written to this tag store"
    for row in rows:
        if row["problem"]:
            yield f"{row['address']}: left as it is: {row['problem']}"
        elif row["parts_before"] == row["parts_after"]:
            yield f"{row['address']}: nothing to merge ({row['parts_after']} files, {size(row['bytes_after'])})"
        else:
            before, after = size(row["bytes_before"]), size(row["bytes_after"])
            yield f"{row['address']}: {row['parts_before']} files, {before} became {row['parts_after']}, {after}"


def ledger_lines(rows: Sequence[Data]) -> Iterator[str]:
    """A line for each account, action and month, what it all comes to, and what the words mean."""
    if not rows:
        yield "no paid calls are on record in this tag store"
        return
    names = Counter((row["month"], row["account"], row["action"]) for row in rows)
    table: list[tuple[str, ...]] = [("month", "account", "action", "billed", "unknown", "not billed", "yuan")]
    for row in rows:
        is_one = names[row["month"], row["account"], row["action"]] == 1
        counts = (f"{row[kind]:,}" for kind in ("yes", "unknown", "no"))
        action = row["action"] if is_one else row["key"]  # the same in several regions
        table.append((row["month"], row["account"], action, *counts, _yuan([row])))
    if len(rows) > 1:
        sums = (f"{sum(row[kind] for row in rows):,}" for kind in ("yes", "unknown", "no"))
        table.append(("in all", "", "", *sums, _yuan(rows)))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        words = (cell.ljust(width) for cell, width in zip(line[:3], widths, strict=False))
        figures = (cell.rjust(width) for cell, width in zip(line[3:], widths[3:], strict=True))
        yield "  ".join([*words, *figures]).rstrip()
    yield ""
    yield "unknown: no answer came, or the vendor does not say whether it bills such an answer; reckoned as billed"
    yield "account: stands for the access key, which is not kept; with @ where the endpoint is not the vendor's own"
    yield "month: in China (UTC+8), as the vendors count; yuan: at list price"


def _yuan(rows: Sequence[Data]) -> str:
    known = [row["yuan"] for row in rows if row["yuan"] is not None]
    if len(known) == len(rows):
        return f"{sum(known):,.4f}"
    return f"{sum(known):,.4f} + unknown" if any(known) else "unknown"


def size(count: int) -> str:
    """Bytes for a person: "19.3 kB"."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:,.3g} TB"


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M}"
