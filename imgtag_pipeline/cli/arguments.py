"""The arguments and options that several commands share, and what their words mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from imgtag_pipeline.errors import ConfigError

In = Annotated[
    str,
    typer.Argument(metavar="IN", help="Parquet, CSV or JSON lines: a file, a quoted glob or a folder, any fsspec URL"),
]
Col = Annotated[str | None, typer.Option("--col", help="column of image references [default: url]")]
ProviderName = Annotated[str, typer.Option("--provider", help="who tags; see `imgtag providers`")]
Checkpoint = Annotated[str | None, typer.Option("--checkpoint", help="tag store: what it knows is not asked again")]
Qps = Annotated[float | None, typer.Option("--qps", help="calls a second, your share of the account's quota")]
Key = Annotated[str | None, typer.Option("--key", help="column that identifies an image [default: the URL]")]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint", help="another address of the API, e.g. http://127.0.0.1:8099")
]
Region = Annotated[str | None, typer.Option("--region", help="the vendor's region, e.g. cn-shanghai")]
Extra = Annotated[list[str] | None, typer.Option("--option", help="provider option name=value, may be repeated")]
AllowPrivate = Annotated[bool, typer.Option("--allow-private", help="read images from private addresses and hosts too")]
AllowLocal = Annotated[bool, typer.Option("--allow-local", help="send files of this machine to a vendor")]
Fit = Annotated[bool, typer.Option("--fit", help="make a JPEG within the vendor's limits of what is not")]
StorageOption = Annotated[
    list[str] | None,
    typer.Option("--storage-option", help="of the files' and the store's file system, name=value, may be repeated"),
]
Spool = Annotated[
    str | None, typer.Option("--spool", help="folder where answers wait for a store behind a URL [default: the cache]")
]
PutEvery = Annotated[
    float, typer.Option("--put-every", help="seconds between puts of sent marks into a --checkpoint behind a URL")
]
Delimiter = Annotated[str | None, typer.Option("--delimiter", help="of a CSV: what separates its fields [default: ,]")]
NoHeader = Annotated[bool, typer.Option("--no-header", help="of a CSV: its first line is a row")]
Json = Annotated[bool, typer.Option("--json", help="print JSON, and nothing else, on standard output")]
Store = Annotated[str, typer.Argument(metavar="STORE", help="the tag store: a folder or fsspec URL")]
RedisUrl = Annotated[
    str | None, typer.Option("--redis-url", envvar="IMGTAG_REDIS_URL", help="share quota and caps with other hosts")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="ask again about images that failed for good")]


def storage_options(given: Sequence[str] | None) -> dict[str, Any] | None:
    """`name=value` pairs for fsspec; `a.b=value` is an option inside the option `a`, as s3fs has them."""
    if not given:
        return None
    options: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"--storage-option {pair!r} is not name=value, for example key=AKIDEXAMPLE")
        *outer, last = name.split(".")
        place = options
        for part in outer:
            place = place.setdefault(part, {})
        place[last] = {"true": True, "false": False}.get(value.lower(), value)
    return options


def lines_of(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the vocabulary {path} cannot be read ({error}); give a text file, one tag a line") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
