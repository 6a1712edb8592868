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
from imgtag_pipeline.emulator import EmulatorOptions, run_in_thread
from imgtag_pipeline.providers import Keys, Viapi
from imgtag_pipeline.samples import write_samples

Say = Callable[[str], None]

PROVIDER: Final = "viapi/TaggingImage"
EMULATOR_KEYS: Final = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "emulator", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "emulator"}
ANSWERS_BEFORE_THE_CRASH: Final = 5
PATIENCE: Final = 30.0
SHOWN: Final = ["picture", "rank", "tag", "confidence", "kind", "status", "error_code"]


def run_demo(folder: Path | None, say: Say) -> None:
    """Draw pictures, label them here and through a signed API, crash, resume, and show the tables and the bill."""
    folder = Path(tempfile.mkdtemp(prefix="imgtag-demo-")) if folder is None else folder
    pictures = write_samples(folder / "pictures")
    say(f"{len(pictures)} sample pictures in {folder / 'pictures'} (one torn, one a web page in disguise)\n")
    _label_here(pictures, say)
    options = EmulatorOptions(qps=5.0, latency=0.3, images=folder / "pictures")
    with run_in_thread(options) as cloud:
        _label_there(folder, pictures, cloud, say)


def _label_here(pictures: Sequence[Path], say: Say) -> None:
    _title(say, 'On this machine: df.imgtag.label(col="url", top_k=4)')
    frame = pd.DataFrame({"url": [str(path) for path in pictures]})
    table = accessor.FrameAccessor(frame).label(col="url", top_k=4, progress=False)
    _show(say, table, rows=16)


def _label_there(folder: Path, pictures: Sequence[Path], cloud: Any, say: Say) -> None:
    source, out, store = folder / "pictures.parquet", folder / "tags.parquet", folder / "store"
    urls = [f"{cloud.url}/_emulator/images/{path.name}" for path in pictures]
    pd.DataFrame({"url": [*urls, urls[0], None]}).to_parquet(source, index=False)
    command = ["label", str(source), "--provider", PROVIDER, "--endpoint", cloud.url, "--checkpoint", str(store)]
    command += ["--out", str(out), "--max-failed", "4"]

    _title(say, f"Through the signed API of a cloud on this machine ({cloud.url}), {options_line(cloud)}")
    provider = Viapi(action="TaggingImage", endpoint=cloud.url, credentials=Keys("emulator", "emulator"))
    say(str(api.plan(str(source), provider=provider, checkpoint=str(store))))
    say(f"\n$ imgtag {shlex.join(command)}")
    _crash(command, cloud)
    say(f"... killed with kill -9 after {cloud.ledger.billed} answers. The same command again:\n")
    finished = _imgtag([*command, "--json", "--quiet"])
    report = json.loads(finished.stdout)
    _say_report(say, report)
    twice = [image for image, count in cloud.ledger.answered_by_image.items() if count > 1]
    say(f"\nThe cloud's own ledger: {cloud.ledger.billed} calls billed, {len(twice)} images answered twice.\n")

    _title(say, f"{out.name}: the long table")
    long = pq.read_table(out).to_pandas()
    _show(say, long, rows=12)
    _title(say, 'The same answers as columns: shape="wide", no call is made')
    wide = api.label(pd.read_parquet(source), provider=provider, checkpoint=str(store), shape="wide", progress=False)
    _show_wide(say, wide)
    say(f"Parquet: {out}\nTag store: {store}   (imgtag status {store})")


def options_line(cloud: Any) -> str:
    """The cloud's limits in words."""
    return f"{cloud.options.qps:g} calls a second"


def _crash(command: Sequence[str], cloud: Any) -> None:
    """Start the run as a process of its own and kill it without warning once some answers have arrived."""
    with _start(command) as process:
        began = time.monotonic()
        while cloud.ledger.billed < ANSWERS_BEFORE_THE_CRASH and process.poll() is None:
            if time.monotonic() - began > PATIENCE:
                break
            time.sleep(0.02)
        process.kill()


def _start(command: Sequence[str]) -> subprocess.Popen[str]:
    full = [sys.executable, "-m", "imgtag_pipeline", *command]
    return subprocess.Popen(full, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)


def _imgtag(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    full = [sys.executable, "-m", "imgtag_pipeline", *command]
    return subprocess.run(full, env=_environment(), capture_output=True, text=True, check=True)


def _environment() -> Mapping[str, str]:
    return {**os.environ, **EMULATOR_KEYS}


def _say_report(say: Say, report: Mapping[str, Any]) -> None:
    rows = [
        ("rows", f"{report['rows']}, {report['images']} distinct images"),
        ("already known", f"{report['known']} (answered before the crash, not asked again)"),
        ("calls", f"{report['calls']} in {report['elapsed']:.1f} s, {report['quota_used_percent']:.0f} % of the quota"),
        ("failed", ", ".join(f"{count} {code}" for code, count in report["failed"].items()) or "none"),
        ("would have cost", f"{report['yuan']:.4f} yuan"),
        ("possibly billed", f"{report['possibly_billed_count']} images were in flight at the crash"),
    ]
    for name, words in rows:
        say(f"{name:<16} {words}")


def _title(say: Say, text: str) -> None:
    say(f"{text}\n{'-' * min(len(text), 100)}")


def _show(say: Say, table: pd.DataFrame, *, rows: int) -> None:
    shown = table.assign(picture=table["url"].fillna("(no url)").map(lambda url: Path(str(url)).name))
    shown = shown[SHOWN].head(rows)
    with pd.option_context("display.unicode.east_asian_width", True, "display.width", 120):
        say(shown.to_string(index=False, na_rep="", float_format="{:.2f}".format))
    if len(table) > rows:
        say(f"... {len(table) - rows} more rows")
    say("")


def _show_wide(say: Say, table: pd.DataFrame) -> None:
    tags = [name for name in table.columns if name.startswith("tag_")][:5]
    shown = table.assign(picture=table["url"].fillna("(no url)").map(lambda url: Path(str(url)).name))
    with pd.option_context("display.unicode.east_asian_width", True, "display.width", 120):
        say(shown[["picture", *tags, "status"]].to_string(index=False, na_rep="", float_format="{:.2f}".format))
    say("")
