"""The verbs: `plan` (what would it take), `label` (table in, table out), `enrich` (files in, files out)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, Unpack

import pyarrow as pa

from imgtag_pipeline import providers
from imgtag_pipeline.checkpoint import store as checkpoint
from imgtag_pipeline.core import bridge, logs
from imgtag_pipeline.core.filesystems import path_text
from imgtag_pipeline.core.redaction import alone, hide_secrets
from imgtag_pipeline.core.table import Source
from imgtag_pipeline.errors import RowsFailed
from imgtag_pipeline.options import Options, OptionWords, failed_limit, spoken
from imgtag_pipeline.pipeline.pipeline import Pipeline
from imgtag_pipeline.pipeline.stores import compact, ledger, status  # noqa: F401 (verbs, too)
from imgtag_pipeline.providers.contract import Provider, fitting
from imgtag_pipeline.providers.without_vendor import completed
from imgtag_pipeline.run.plan import Plan
from imgtag_pipeline.run.progress import Bar
from imgtag_pipeline.run.report import RunReport
from imgtag_pipeline.run.stopping import on_sigterm
from imgtag_pipeline.sink.files import FileSink
from imgtag_pipeline.sink.overlap import refuse_overlap
from imgtag_pipeline.sink.tables import attach_report, give_back
from imgtag_pipeline.source.files import open_files
from imgtag_pipeline.source.tables import open_source


@spoken
@hide_secrets
def label(table: Any, *, col: str | None = None, **words: Unpack[OptionWords]) -> Any:
    """Tag the images of a table.

    Every input row appears in the result, in the caller's order and with the caller's index; a failure is a row. Works
    inside a running event loop.

    Parameters
    ----------
    table : table
        pandas DataFrame or Series, pyarrow Table, RecordBatch, RecordBatchReader or Dataset, Polars, DuckDB, anything
        with `__arrow_c_stream__`. A reader or Dataset comes back as a lazy, streaming reader: reading it is paying.
    col : str, optional
        Column of image references: paths, http(s) or any fsspec URL. Default: `url`.
    **words

    Returns
    -------
    table
        The kind of table that was given, in the `shape` that was asked for. The report is at `df.attrs["imgtag"]`, or
        under the metadata key `imgtag` of a pyarrow Table.

    Raises
    ------
    ConfigError
        The caller's mistake, found before any call.
    FatalError
        A refusal that concerns every image. Like the next three it carries `.report` and `.partial`, the table so far.
    CapReached
        `max_calls` or `budget` is used up.
    BreakerOpen
        The run only failed.
    Interrupted
        Ctrl-C, SIGTERM or `stop.request()`; also a `KeyboardInterrupt`.
    StoreError
        The checkpoint or a shared record cannot be read or written.
    RowsFailed
        With `errors="raise"`, at the end, when images failed.

    Examples
    --------
    >>> tags = imgtag.label(df, col="url", min_confidence=0.5)
    >>> imgtag.label(df, provider="viapi/TaggingImage", checkpoint="tags/", max_calls=1000)
    """
    pipeline = _pipeline(open_source(table), col, words)
    if pipeline.source.is_lazy:
        return give_back(pipeline.source, pipeline.schema, _lazily(pipeline), shape=pipeline.options.shape)
    with Bar(pipeline.options.progress, pipeline.provider.address) as bar, on_sigterm(pipeline.stop):
        pipeline.bar = bar.observer
        batches = list(bridge.iterate(pipeline.batches, on_interrupt=pipeline.stop))
    return _finished(pipeline, batches)


@spoken
@hide_secrets
async def alabel(table: Any, *, col: str | None = None, **words: Unpack[OptionWords]) -> Any:
    """`label` for callers that own an event loop.

    When the call is cancelled, the calls in flight get their grace time and every answer that arrived is kept.

    Parameters
    ----------
    table : table
        As for `label`.
    col : str, optional
        Column of image references. Default: `url`.
    **words

    Returns
    -------
    table
        As from `label`; for a reader the whole result, as a pyarrow Table.

    Raises
    ------
    ConfigError, FatalError, CapReached, BreakerOpen, Interrupted, StoreError, RowsFailed
        As from `label`.

    Examples
    --------
    >>> tags = await imgtag.alabel(df, checkpoint="tags/")
    """
    pipeline = _pipeline(open_source(table), col, words)
    with Bar(pipeline.options.progress, pipeline.provider.address) as bar, on_sigterm(pipeline.stop):
        pipeline.bar = bar.observer
        async with contextlib.aclosing(pipeline.batches()) as running:
            batches = [batch async for batch in running]
    return _finished(pipeline, batches)


@spoken
@hide_secrets
def enrich(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    col: str | None = None,
    overwrite: bool = False,
    limit: int | None = None,
    max_failed: int | str | None = None,
    delimiter: str | None = None,
    header: bool = True,
    **words: Unpack[OptionWords],
) -> RunReport:
    """Tag the images of files, larger than memory, and write the table to files.

    After any error nothing stands at `out`, and a re-run with the same checkpoint continues.

    Parameters
    ----------
    source : str, path or list of these
        Parquet, CSV or JSON lines: a file, a glob or a dataset folder, local or any fsspec URL.
    out : str or path
        A file whose suffix says the format, or a folder for a Parquet dataset. Written whole or not at all.
    col : str, optional
        Column of image references. Default: `url`.
    overwrite : bool, default False
        Replace `out` if it exists.
    limit : int, optional
        Only the first so many rows.
    max_failed : int or str, optional
        With more failed images than this (a number, or a share such as "1%") the report's `exit_code` is 1; nothing
        is raised and `out` is written.
    delimiter : str, optional
        Of a CSV: one character. Default: a comma, in .tsv a tab.
    header : bool, default True
        False: the first line of a CSV is a row.
    **words

    Returns
    -------
    RunReport
        What was asked, answered, failed and billed.

    Raises
    ------
    ConfigError
        The caller's mistake, found before any call.
    FatalError
        A refusal that concerns every image. Like the next three it carries `.report`.
    CapReached
        `max_calls` or `budget` is used up.
    BreakerOpen
        The run only failed.
    Interrupted
        Ctrl-C, SIGTERM or `stop.request()`; also a `KeyboardInterrupt`.
    StoreError
        The checkpoint or a shared record cannot be read or written.
    RowsFailed
        With `errors="raise"`, at the end, when images failed.
    OutputError
        `out` could not be written at the end; the table is kept in a file that the error names.

    Examples
    --------
    >>> imgtag.enrich("in/*.parquet", "tagged.parquet", provider="viapi/TaggingImage", checkpoint="tags/")
    """
    options = Options.of(words)
    failed_limit(max_failed)
    out = path_text(out)
    files = open_files(_paths(source), storage_options=options.storage_options, delimiter=delimiter, header=header)
    if files.origin is not None:
        storage = options.storage_options
        refuse_overlap(files.origin, out, shape=options.shape, overwrite=overwrite, storage_options=storage)
    if limit is not None:
        files = files.limited(limit)
    pipeline = _pipeline(files, col, words, keeps_rows=False)
    schema: pa.Schema | None = None
    with FileSink(out, overwrite=overwrite, storage_options=options.storage_options) as sink:
        sink.check(pipeline.schema)
        sink.prepare()
        with Bar(options.progress, pipeline.provider.address) as bar, on_sigterm(pipeline.stop):
            pipeline.bar = bar.observer
            for batch in bridge.iterate(pipeline.batches, on_interrupt=pipeline.stop):
                schema = batch.schema
                sink.write(batch)
        error = pipeline.error()
        if error is not None and not isinstance(error, RowsFailed):
            raise error
        report = _judged(_report(pipeline), max_failed)
        sink.finish(schema or pipeline.schema, report.to_dict())
    if error is not None:
        raise error
    return report


@spoken
@hide_secrets
def plan(
    table: Any,
    *,
    col: str | None = None,
    delimiter: str | None = None,
    header: bool = True,
    **words: Unpack[OptionWords],
) -> Plan:
    """Reckon what labelling would take. No call is made.

    Parameters
    ----------
    table : table, str, path or list of paths
        What `label` takes, or files as for `enrich`.
    col : str, optional
        Column of image references. Default: `url`.
    delimiter : str, optional
        Of a CSV: one character.
    header : bool, default True
        False: the first line of a CSV is a row.
    **words

    Returns
    -------
    Plan
        Distinct, known, impossible and payable images, calls, yuan and finish time.

    Raises
    ------
    ConfigError
        The caller's mistake.

    Examples
    --------
    >>> imgtag.plan("in/*.parquet", provider="viapi/TaggingImage", checkpoint="tags/")
    """
    logs.set_up()
    options = Options.of(words)
    if isinstance(table, str | os.PathLike | list | tuple):
        storage = options.storage_options
        source = open_files(_paths(table), storage_options=storage, delimiter=delimiter, header=header)
    else:
        source = open_source(table)
    return bridge.run(Pipeline(source, source.image_column(col), options, _provider(options)).plan)


def provider_rows() -> list[dict[str, Any]]:
    """Who can tag, as plain data: address, limits, price, the options each takes, and those that it needs."""
    rows = [asdict(found) for found in providers.describe()]
    return [{"address": row["address"], **row.pop("facts"), **row} for row in rows]


def may_cost(provider: Provider, yuan: float | None = None) -> bool:
    """Whether a call may cost something: by the caller's price, else by the provider's; an unknown one may."""
    if yuan is not None or provider.price is None:
        return yuan != 0
    return any(each for _, each in provider.price.tiers)


def loss_bound(store: str | None, put_every: float) -> str | None:
    """What the loss of this host would cost a run with this checkpoint, in a sentence; None where it lies here."""
    return checkpoint.loss_bound(store, put_every=put_every)


def _paths(source: Any) -> list[str]:
    return [path_text(one) for one in (source if isinstance(source, list | tuple) else [source])]


def _pipeline(source: Source, col: str | None, words: OptionWords, *, keeps_rows: bool = True) -> Pipeline:
    logs.set_up()
    options = Options.of(words)
    return Pipeline(
        source,
        source.image_column(col),
        options,
        _provider(options),
        keeps_rows=keeps_rows and not source.is_lazy,
    )


def _provider(options: Options) -> Provider:
    given = options.provider
    provider = providers.get(given) if isinstance(given, str) else completed(given)
    return fitting(provider) if options.fit else provider


def _finished(pipeline: Pipeline, batches: Sequence[pa.RecordBatch]) -> Any:
    schema = batches[0].schema if batches else pipeline.schema
    if pipeline.source.is_lazy:
        table = pa.Table.from_batches(batches, schema=schema)
    else:
        shape, keep = pipeline.options.shape, pipeline.kept_names
        table = give_back(pipeline.source, schema, batches, shape=shape, keep=keep)
    table = attach_report(table, _report(pipeline).to_dict())
    error = pipeline.error(table)
    if error is not None:
        raise error
    return table


def _lazily(pipeline: Pipeline) -> Iterator[pa.RecordBatch]:
    with alone():
        batches = bridge.iterate(pipeline.batches, on_interrupt=pipeline.stop, ahead=1)
        with contextlib.closing(batches):
            while True:
                with on_sigterm(pipeline.stop):  # while somebody waits for a batch, not while the reader lies idle
                    batch = next(batches, None)
                if batch is None:
                    break
                yield batch
        error = pipeline.error()
        if error is not None:
            raise error


def _judged(report: RunReport, max_failed: int | str | None) -> RunReport:
    most = failed_limit(max_failed, report.images)
    is_too_many = most is not None and report.failed_images > most
    return replace(report, exit_code=RowsFailed.exit_code) if is_too_many and not report.exit_code else report


def _report(pipeline: Pipeline) -> RunReport:
    if pipeline.report is None:
        raise RuntimeError("the run has not ended, so there is no report yet")
    return pipeline.report
