"""`imgtag demo`: the whole story in half a minute, on pictures it draws and a cloud on this machine."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow.parquet as pq

from imgtag_pipeline import accessor, api
from imgtag_pipeline.cli.contact_sheet import contact_sheet
from imgtag_pipeline.cli.demo_pictures import write_samples
from imgtag_pipeline.cli.photographs import write_photographs
from imgtag_pipeline.emulator import EmulatorOptions, credentials, run_in_thread
from imgtag_pipeline.providers import Keys, Viapi
from imgtag_pipeline.run.report import rows_in_words

Say = Callable[[str], None]

PROVIDER: Final = "viapi/TaggingImage"
QPS: Final = 5.0
ANSWERS_BEFORE_THE_CRASH: Final = 5
PAUSE_BEFORE_THE_CRASH: Final = 0.1  # half the pace: the fifth answer is in, the next ones are still on their way
PATIENCE: Final = 30.0
SHOWN: Final = ["picture", "rank", "tag", "confidence", "kind", "status", "error_code"]
SHOWN_HERE: Final = ("cat.jpg", "espresso.jpg", "cameraman.jpg", "sunset.jpg", "torn.jpg")
SHOWN_THERE: Final = ("sunset.jpg", "lemons.jpg", "snow.webp", "torn.jpg")
SHOWN_TAGS: Final = 6


def run_demo(folder: Path | None, say: Say) -> None:
    """Label photographs and drawn pictures here, the latter also through a signed API; crash, resume, show the bill."""
    folder = Path(tempfile.mkdtemp(prefix="imgtag-demo-")) if folder is None else folder
    began = time.monotonic()
    pictures = write_samples(folder / "pictures")
    photographs = write_photographs(folder / "photographs")
    say(f"{len(photographs)} photographs and {len(pictures)} drawn pictures; one is torn, one a web page.\n")
    _label_here(folder, [*photographs, *pictures], say)
    with run_in_thread(EmulatorOptions(qps=QPS, latency=0.3, images=folder / "pictures")) as cloud:
        _label_there(folder, pictures, cloud, say)
    say(f"All this took {time.monotonic() - began:.0f} seconds and no money.")


def _label_here(folder: Path, pictures: Sequence[Path], say: Say) -> None:
    _title(say, '1. On this machine, offline: df.imgtag.label(col="url", min_confidence=0.5, top_k=3)')
    frame = pd.DataFrame({"url": [str(path) for path in pictures]})
    table = accessor.FrameAccessor(frame).label(col="url", min_confidence=0.5, top_k=3, progress=False)
    _show_long(say, table, SHOWN_HERE)
    sheet = folder / "contact_sheet.jpg"
    contact_sheet(table, columns=6).save(sheet, quality=88)
    say(f"Contact sheet  {sheet}\n")


def _label_there(folder: Path, pictures: Sequence[Path], cloud: Any, say: Say) -> None:
    source, out, store = folder / "pictures.parquet", folder / "tags.parquet", folder / "store"
    urls = [f"{cloud.url}/_emulator/images/{path.name}" for path in pictures]
    pd.DataFrame({"url": [*urls, urls[0], None]}).to_parquet(source, index=False)
    provider = Viapi(action="TaggingImage", endpoint=cloud.url, credentials=Keys("emulator", "emulator"))

    _title(
        say, f"2. Through a signed cloud API, here a loopback cloud with a quota of {QPS:g} calls a second: the plan"
    )
    say(str(api.plan(str(source), provider=provider, checkpoint=str(store), qps=QPS)) + "\n")

    _title(say, "3. The run, killed half way, and the same command again")
    command = ["label", str(source), "--provider", PROVIDER, "--endpoint", cloud.url, "--qps", f"{QPS:g}"]
    command += ["--checkpoint", str(store), "--out", str(out), "--max-failed", "4"]
    say(_wrapped(command))
    _crash(command, cloud)
    answered = sum(cloud.ledger.answered_by_image.values())
    say(f"... kill -9 after {answered} answers; no {out.name} yet, the tag store has what arrived. Again:\n")
    report = json.loads(_imgtag([*command, "--json", "--quiet"]).stdout)
    _say_report(say, report)
    twice = [image for image, count in cloud.ledger.answered_by_image.items() if count > 1]
    say(f"{'the cloud says':<16} {cloud.ledger.billed} calls billed in both runs, {len(twice)} images answered twice\n")

    _title(say, f"4. {out.name}, the long table: a row per tag, and a row for each failure")
    _show_long(say, pq.read_table(out).to_pandas(), SHOWN_THERE)
    _title(say, '5. The same answers as columns, shape="wide": no call is made, the tag store knows them all')
    wide = api.label(pd.read_parquet(source), provider=provider, checkpoint=str(store), shape="wide", progress=False)
    _show_wide(say, wide)
    say(f"Parquet    {out}\nTag store  {store}   (see: imgtag status {shlex.quote(str(store))})")


def _wrapped(command: Sequence[str]) -> str:
    """The command as a person types it, an option per line."""
    lines = [f"$ imgtag {shlex.join(command[:2])}"]
    lines += [f"      {name} {shlex.quote(value)}" for name, value in zip(command[2::2], command[3::2], strict=True)]
    return " \\\n".join(lines)


def _crash(command: Sequence[str], cloud: Any) -> None:
    """Start the run as a process of its own and kill it without warning once some answers have arrived."""
    with _start(command) as process:
        began = time.monotonic()
        while cloud.ledger.billed < ANSWERS_BEFORE_THE_CRASH and process.poll() is None:
            if time.monotonic() - began > PATIENCE:
                break
            time.sleep(0.02)
        time.sleep(PAUSE_BEFORE_THE_CRASH)
        process.kill()


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    full = [sys.executable, "-m", "imgtag_pipeline", *command]
    return subprocess.Popen(full, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)


def _imgtag(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    full = [sys.executable, "-m", "imgtag_pipeline", *command]
    return subprocess.run(full, env=_environment(), capture_output=True, text=True, check=True)


def _environment() -> Mapping[str, str]:
    return {**os.environ, **credentials()}


def _say_report(say: Say, report: Mapping[str, Any]) -> None:
    failed = ", ".join(f"{count} {code}" for code, count in report["failed"].items())
    rows = [
        ("rows", rows_in_words(report["rows"], report["images"], report["skipped"])),
        ("already known", f"{report['known']}, from before the crash; not asked again"),
        ("calls", f"{report['calls']} in {report['elapsed']:.1f} s"),
        ("tags for", f"{report['ok']} images"),
        ("failed", failed or "none"),
        ("would have cost", f"{report['yuan']:.4f} yuan"),
    ]
    if count := report["possibly_billed_count"]:
        rows.append(
            ("possibly billed", f"{count} in flight at the crash: sent, and the answer was lost with the process")
        )
    for name, words in rows:
        say(f"{name:<16} {words}")


def _title(say: Say, text: str) -> None:
    say(f"{text}\n{'-' * len(text)}")


def _named(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(picture=table["url"].fillna("(no url)").map(lambda url: Path(str(url)).name))


def _show_long(say: Say, table: pd.DataFrame, pictures: Sequence[str]) -> None:
    named = _named(table)
    shown = named[named["picture"].isin(pictures)]
    shown = shown[~shown.duplicated(["picture", "rank"])][SHOWN]
    shown = shown.assign(rank=shown["rank"].map("{:.0f}".format, na_action="ignore"))
    _print(say, shown)
    say(f"... {len(table) - len(shown)} more rows\n")


def _show_wide(say: Say, table: pd.DataFrame) -> None:
    """The columns that tell the pictures apart best: those seen in about half of them."""
    tags = [name for name in table.columns if name.startswith("tag_")]
    share = (table[tags] > 0).sum() / table[tags].notna().sum()
    telling = sorted(tags, key=lambda name: abs(share[name] - 0.5))[:SHOWN_TAGS]
    _print(say, _named(table)[["picture", *telling, "status"]])
    say(f"... {len(tags) - len(telling)} more tags\n")


def _print(say: Say, table: pd.DataFrame) -> None:
    with pd.option_context("display.unicode.east_asian_width", True, "display.width", 120):
        say(table.to_string(index=False, na_rep="", float_format="{:.2f}".format))
