"""`imgtag`: the verbs of `api` on the command line. Reports go to standard output, bars and logs to standard error."""

from __future__ import annotations

import functools
import inspect
import io
import signal
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn, ParamSpec, cast

import typer

from imgtag_pipeline import api, providers
from imgtag_pipeline.cli import render as shown
from imgtag_pipeline.cli.arguments import (
    AllowLocal,
    AllowPrivate,
    Checkpoint,
    Col,
    Delimiter,
    Endpoint,
    Extra,
    Fit,
    In,
    Json,
    Key,
    NoHeader,
    ProviderName,
    PutEvery,
    Qps,
    RedisUrl,
    Region,
    RetryFailed,
    Spool,
    StorageOption,
    Store,
    lines_of,
    storage_options,
)
from imgtag_pipeline.cli.exit_codes import INTERRUPTED, STOPS, end_run, print_json, spoken, tell
from imgtag_pipeline.core import logs
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.options import OptionWords
from imgtag_pipeline.pipeline import stores
from imgtag_pipeline.providers.contract import Provider
from imgtag_pipeline.run.progress import is_terminal

app = typer.Typer(
    name="imgtag",
    help="Image tags beside a column of image URLs: paced, resumable, billed once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

P = ParamSpec("P")


def _command(name: str | None = None, *, short: str | None = None) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """Register a command whose errors become one sentence on standard error and an exit code; `short` is for lists."""
    return lambda function: app.command(name, short_help=short)(spoken(function))


@app.callback(invoke_without_command=True)
def _main(version: Annotated[bool, typer.Option("--version", help="show the version and end")] = False) -> None:
    if version:
        typer.echo(f"imgtag_pipeline {metadata.version('imgtag_pipeline')}")
        raise typer.Exit


@_command()
def label(
    source: In,
    out: Annotated[str, typer.Option("--out", help="file (its suffix says the format) or folder to write")],
    col: Col = None,
    provider: ProviderName = "local",
    checkpoint: Checkpoint = None,
    shape: Annotated[str, typer.Option("--shape", help="long, wide or nested")] = "long",
    qps: Qps = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="exchanges in flight")] = None,
    budget: Annotated[float | None, typer.Option("--budget", help="yuan to spend at most")] = None,
    max_calls: Annotated[int | None, typer.Option("--max-calls", help="paid calls to send at most")] = None,
    on_cap: Annotated[
        str, typer.Option("--on-cap", help="at a cap: raise, or write OUT as far as it is known")
    ] = "raise",
    offline: Annotated[bool, typer.Option("--offline", help="only what the tag store knows: no call, no keys")] = False,
    job: Annotated[str | None, typer.Option("--job", help="name whose runs share --budget and --max-calls")] = None,
    budget_per: Annotated[str | None, typer.Option("--budget-per", help="day or month: --budget is for each")] = None,
    price: Annotated[float | None, typer.Option("--price", help="yuan per call, where it is not published")] = None,
    max_failed: Annotated[
        str, typer.Option("--max-failed", help="failed images (or a share, 1%) up to which the exit code is 0")
    ] = "0",
    retry_failed: RetryFailed = False,
    stop_failed: Annotated[
        str | None, typer.Option("--stop-failed", help="end the run, exit code 3, at more failed images (or 20%)")
    ] = None,
    min_confidence: Annotated[
        float | None, typer.Option("--min-confidence", help="show tags from here, 0 to 1")
    ] = None,
    top_k: Annotated[int | None, typer.Option("--top-k", help="show so many tags per image")] = None,
    vocabulary: Annotated[
        Path | None, typer.Option("--vocabulary", help="file with one tag a line: wide columns")
    ] = None,
    value: Annotated[str, typer.Option("--value", help="of wide cells: confidence, or measure (a colour's share)")] = (
        "confidence"
    ),
    key: Key = None,
    keep: Annotated[list[str] | None, typer.Option("--keep", help="column to carry into a long table")] = None,
    endpoint: Endpoint = None,
    region: Region = None,
    option: Extra = None,
    redis_url: RedisUrl = None,
    allow_private: AllowPrivate = False,
    allow_local: AllowLocal = False,
    fit: Fit = False,
    storage_option: StorageOption = None,
    spool: Spool = None,
    put_every: PutEvery = 0.3,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    limit: Annotated[int | None, typer.Option("--limit", help="only the first so many rows")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace OUT if it exists")] = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="no bar and no report")] = False,
) -> None:
    """Tag the images of IN and write the table to OUT."""
    logs.set_up(progress_lines=not quiet and not is_terminal())
    who = _provider(provider, endpoint, region, option)
    if checkpoint is None and not quiet and not offline and api.may_cost(who, price):
        typer.echo("imgtag: no --checkpoint, so if this run is stopped its answers are paid for again", err=True)
    if not quiet and not offline and api.may_cost(who, price) and (bound := api.loss_bound(checkpoint, put_every)):
        typer.echo(f"imgtag: {bound}", err=True)
    words: dict[str, Any] = {
        "provider": who,
        "checkpoint": checkpoint,
        "shape": shape,
        "qps": qps,
        "concurrency": concurrency,
        "budget": budget,
        "max_calls": max_calls,
        "on_cap": on_cap,
        "offline": offline,
        "job": job,
        "budget_per": budget_per,
        "spool": spool,
        "price": price,
        "retry_failed": retry_failed,
        "stop_failed": stop_failed,
        "min_confidence": min_confidence,
        "top_k": top_k,
        "vocabulary": None if vocabulary is None else lines_of(vocabulary),
        "value": value,
        "key": key,
        "keep": tuple(keep or ()),
        "redis_url": redis_url,
        "storage_options": storage_options(storage_option),
        "allow_private": allow_private,
        "allow_local": allow_local,
        "fit": fit,
        "put_every": put_every,
        "progress": False if quiet else None,
    }
    report = api.enrich(
        source,
        out,
        col=col,
        overwrite=overwrite,
        limit=limit,
        max_failed=max_failed,
        delimiter=delimiter,
        header=not no_header,
        **cast(OptionWords, words),
    )
    end_run(report, out, max_failed=max_failed, as_json=as_json, is_quiet=quiet)


def _retry() -> Callable[..., None]:
    """`label` that asks again about failed images: the same options, and the tag store is not optional."""
    known = inspect.signature(label, eval_str=True)
    needed = known.parameters["checkpoint"].replace(default=inspect.Parameter.empty)
    parameters = {**known.parameters, "checkpoint": needed}
    del parameters["retry_failed"]

    @functools.wraps(label)
    def retry(**words: Any) -> None:
        stores.check_store(words["checkpoint"], storage_options=storage_options(words["storage_option"]))
        label(**words, retry_failed=True)

    retry.__doc__ = "Ask again about the images of IN that failed for good, and write the whole table to OUT."
    inner = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters.values()]
    retry.__signature__ = known.replace(parameters=inner)  # type: ignore[attr-defined]
    return retry


app.command("retry", short_help="Ask again about the images that failed for good.")(spoken(_retry()))


@_command(short="Say what labelling IN would take. No call is made.")
def plan(
    source: In,
    col: Col = None,
    provider: ProviderName = "local",
    checkpoint: Checkpoint = None,
    qps: Qps = None,
    price: Annotated[float | None, typer.Option("--price", help="yuan per call, where it is not published")] = None,
    key: Key = None,
    retry_failed: RetryFailed = False,
    endpoint: Endpoint = None,
    region: Region = None,
    option: Extra = None,
    allow_private: AllowPrivate = False,
    allow_local: AllowLocal = False,
    fit: Fit = False,
    storage_option: StorageOption = None,
    delimiter: Delimiter = None,
    no_header: NoHeader = False,
    as_json: Json = False,
) -> None:
    """Say what labelling IN would take: images, calls, yuan, finish time. No call is made."""
    words = {
        "provider": _provider(provider, endpoint, region, option),
        "checkpoint": checkpoint,
        "qps": qps,
        "price": price,
        "key": key,
        "retry_failed": retry_failed,
        "storage_options": storage_options(storage_option),
        "allow_private": allow_private,
        "allow_local": allow_local,
        "fit": fit,
    }
    made = api.plan(source, col=col, delimiter=delimiter, header=not no_header, **cast(OptionWords, words))
    if as_json:
        print_json(made.to_dict())
    else:
        typer.echo(str(made))


@_command("providers")
def list_providers(as_json: Json = False) -> None:
    """List who can tag, and what a call costs."""
    tell(api.provider_rows(), shown.provider_lines, as_json)


@_command()
def status(store: Store, storage_option: StorageOption = None, as_json: Json = False) -> None:
    """Say what a tag store holds."""
    tell(stores.status(store, storage_options=storage_options(storage_option)), shown.status_lines, as_json)


@_command(short="Say what a tag store's runs have been billed.")
def ledger(store: Store, storage_option: StorageOption = None, as_json: Json = False) -> None:
    """Say what a tag store's runs have been billed, by account, action and month."""
    tell(stores.ledger(store, storage_options=storage_options(storage_option)), shown.ledger_lines, as_json)


@_command()
def compact(store: Store, storage_option: StorageOption = None, as_json: Json = False) -> None:
    """Merge the small parts of a tag store."""
    tell(stores.compact(store, storage_options=storage_options(storage_option)), shown.compact_lines, as_json)


@_command(short="Say what is wrong with keys, clock, endpoint or purchase.")
def doctor(
    provider: Annotated[str, typer.Option("--provider", help="whom to examine; see `imgtag providers`")],
    endpoint: Endpoint = None,
    region: Region = None,
    option: Extra = None,
    image: Annotated[
        str | None, typer.Option("--image", help="ask about this image [default: one that is not]")
    ] = None,
    no_call: Annotated[bool, typer.Option("--no-call", help="look only at what can be seen without a call")] = False,
) -> None:
    """Say what is wrong with credentials, clock, endpoint, region or purchase, with at most one call."""
    from imgtag_pipeline.cli.doctor import Doctor

    found = Doctor(_provider(provider, endpoint, region, option), typer.echo, image=image, makes_call=not no_call)
    if code := found.examine():
        raise typer.Exit(code)


@_command()
def emulate(
    port: Annotated[int, typer.Option("--port", help="port on 127.0.0.1; 0 takes a free one")] = 8099,
    qps: Annotated[float, typer.Option("--qps", help="quota per account and action")] = 2.0,
    latency: Annotated[float, typer.Option("--latency", help="seconds before each answer")] = 0.05,
    fault: Annotated[list[str] | None, typer.Option("--fault", help="e.g. throttle=0.05, may be repeated")] = None,
    images: Annotated[Path | None, typer.Option("--images", help="folder served at /_emulator/images/")] = None,
) -> None:
    """Run a loopback cloud that speaks the vendors' APIs. Ctrl-C ends it."""
    from imgtag_pipeline import emulator

    def announce(url: str) -> None:
        typer.echo(f"# a cloud on {url}: {qps:g} calls a second; Ctrl-C ends it")
        typer.echo("\n".join(emulator.exports(url)))

    options = emulator.EmulatorOptions(port=port, qps=qps, latency=latency, faults=tuple(fault or ()), images=images)
    emulator.serve(options, announce)


@_command(short="Show it all in half a minute, without an account.")
def demo(
    folder: Annotated[Path | None, typer.Option("--folder", help="where to work [default: a temporary folder]")] = None,
) -> None:
    """Show it all in half a minute: pictures, a loopback cloud, an interruption, a resumed run, the tables."""
    from imgtag_pipeline.cli.demo import run_demo

    run_demo(folder, typer.echo)


def _provider(address: str, endpoint: str | None, region: str | None, option: list[str] | None) -> Provider:
    words: dict[str, str] = {}
    for pair in option or ():
        name, mark, value = pair.partition("=")
        if not mark or not name:
            raise ConfigError(f"--option {pair!r} is not understood; write name=value, for example color_count=5")
        words[name.replace("-", "_")] = value
    if endpoint is not None:
        words["endpoint"] = endpoint
    if region is not None:
        words["region"] = region
    return providers.get(address, **words)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def main() -> NoReturn:
    """Run the command line; exits with 0, 1 (failed images), 2 (caller's mistake), 3 (fatal), 4 (cap) or 130."""
    signal.signal(signal.SIGTERM, _terminated)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console that cannot show a tag stops nothing
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        for number in STOPS:  # the interpreter's own end would be cut short, and the exit code with it
            signal.signal(number, signal.SIG_IGN)
    sys.exit(0)
