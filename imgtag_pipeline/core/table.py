"""A caller's table as the package sees it: what `source` reads, and what `sink` must give back."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pyarrow as pa

from imgtag_pipeline.core import references
from imgtag_pipeline.errors import ConfigError

ROW: Final = "__row__"
BATCH_ROWS: Final = 16_384
BATCH_BYTES: Final = 64 << 20
_SHOWN_NAMES: Final = 20

Reading = Callable[[Sequence[str]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the files of a source were found: as given, as paths on the file system, and one by one."""

    given: str
    places: tuple[str, ...]
    files: tuple[str, ...]
    filesystem: Any = field(repr=False)


class ImageColumn(str):
    """The name of a column whose values are wanted as image references: what is no text is marked."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Source:
    """A table to read once, or as often as its kind allows.

    `names` are its columns as text. `schema` is None for a frame: then the kept column is `__row__`, the row's
    position, and `give_back` restores index and columns from it. `rows` is None where nobody knows before the end.
    """

    kind: str
    names: tuple[str, ...]
    schema: pa.Schema | None
    rows: int | None
    is_lazy: bool
    read: Reading = field(repr=False)
    table: Any = field(default=None, repr=False)
    column: str | None = None  # the image column, where the caller's object is one (a Series)
    first: Callable[[str], list[Any]] | None = field(default=None, repr=False)  # the first values of a frame's column
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # files that do not have a column
    origin: Origin | None = field(default=None, repr=False)
    unlike: Mapping[str, str] = field(default_factory=dict)  # columns of several types that do not fit, and why

    def image_column(self, label: Any = None) -> str:
        """The column of image references: by its label, or `url`; no other is guessed.

        Raises `ConfigError` where some files lack it, and where it holds lists.
        """
        if label is None:
            label = self.column or "url"
            if label not in self.names and len(self.names) == 1:
                raise ConfigError(
                    f"there is no column 'url', only {self.names[0]!r}; if that is meant, name it in col= (--col)"
                )
        name = self.identifying(label)
        kind = None if self.schema is None else self.schema.field(name).type
        is_lists = kind is not None and (pa.types.is_list(kind) or pa.types.is_large_list(kind))
        if is_lists or (self.first is not None and references.is_lists(self.first(name))):
            raise ConfigError(
                f"the column {name!r} holds lists, and a row takes one image; make a row of each: df.explode({name!r})"
            )
        return name

    def holds_pictures(self, name: str) -> bool:
        """Whether the column holds pictures themselves rather than references, as far as can be told beforehand."""
        if self.first is not None:
            return any(references.picture_bytes(value) is not None for value in self.first(name))
        kind = None if self.schema is None else self.schema.field(name).type
        return kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0

    def identifying(self, label: Any = None) -> str:
        """A column that every file must have."""
        name = self.resolve(label)
        if files := self.lacking.get(name):
            more = f" and {len(files) - 1} more" if len(files) > 1 else ""
            raise ConfigError(
                f"{files[0]!r}{more} has no column {name!r}; give files that all have it, or rename theirs"
            )
        return name

    def resolve(self, label: Any = None) -> str:
        """The name of the column that the caller means: by its label, or `url`, or the only one there is."""
        if label is None:
            if len(self.names) == 1:
                return self.names[0]
            label = "url"
        name = label if isinstance(label, str) else str(label)
        if name in self.unlike:
            raise ConfigError(
                f"the files do not fit together in {name!r} ({self.unlike[name]}); give files of one kind"
            )
        if name not in self.names:
            raise ConfigError(no_column(name, self.names))
        if self.names.count(name) > 1:
            raise ConfigError(f"there are {self.names.count(name)} columns named {name!r}; rename all but one")
        return name

    def kept(self, shape: str, keep: Sequence[str] = ()) -> pa.Schema:
        """The columns to carry beside each row: `keep` for a long table, all of them for a wide or nested one."""
        if self.schema is None:
            return pa.schema([pa.field(ROW, pa.int64())])
        if shape == "long":
            return pa.schema([self.schema.field(self.resolve(name)) for name in dict.fromkeys(keep)])
        for name in [*self.names, *self.unlike]:
            self.resolve(name)
        return self.schema

    def batches(self, columns: Sequence[str], *, max_rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Record batches with these columns (each once), at most `max_rows` rows and about 64 MB each."""
        wanted = list(dict.fromkeys(columns))
        for batch in self.read(wanted):
            size = max(1, min(max_rows, BATCH_BYTES * batch.num_rows // max(1, _bytes_of(batch))))
            for start in range(0, batch.num_rows, size):
                yield batch.slice(start, size)

    def limited(self, rows: int) -> Source:
        """The same source with its first rows only; no more than these are read."""
        if rows < 0:
            raise ConfigError(f"limit is {rows}; give a number of rows from 0 up")

        def read(wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
            left = rows
            batches = self.read(wanted)
            while left > 0 and (batch := next(batches, None)) is not None:
                yield batch.slice(0, left)
                left -= batch.num_rows

        return replace(self, read=read, rows=None if self.rows is None else min(self.rows, rows))


def plain_text(value: Any) -> str:
    """A value as text that Arrow and every file can hold: a lone surrogate becomes a backslash and its number."""
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def no_column(name: str, names: Sequence[str]) -> str:
    """What to say about a name that no column has: the closest one, and all there are."""
    close = difflib.get_close_matches(name.lower(), [known.lower() for known in names], n=1)
    matches = [known for known in names if close and known.lower() == close[0]]
    hint = f"did you mean {matches[0]!r}? " if matches else ""
    listed = ", ".join(names[:_SHOWN_NAMES]) + (
        f" and {len(names) - _SHOWN_NAMES} more" if names[_SHOWN_NAMES:] else ""
    )
    return f"there is no column {name!r}; {hint}the columns are: {listed or 'none at all'}"


def _bytes_of(batch: pa.RecordBatch) -> int:
    try:
        return int(batch.nbytes)
    except pa.ArrowTypeError:  # older Arrow cannot size views
        return int(batch.get_total_buffer_size())
