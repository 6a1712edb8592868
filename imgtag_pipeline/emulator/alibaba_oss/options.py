"""How the emulator's object storage behaves: its buckets, its domains, where objects are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class OssOptions:
    """The defaults are an OSS that takes what comes.

    `buckets` exist from the start; with `creates_buckets` an unknown one is made when it is written to or listed.
    `domains` says which bucket stands behind a custom domain. Objects lie in memory, `max_bytes` in all, or in
    `folder`, where they outlive the emulator. `region` is where the buckets are. `tagimage_shape` is how imm/tagimage
    names its fields: as the manual's example, or as its table of fields, where all is text.
    """

    buckets: tuple[str, ...] = ()
    creates_buckets: bool = True
    domains: Mapping[str, str] = field(default_factory=dict)
    region: str = "cn-hangzhou"
    folder: Path | None = None
    max_bytes: int = 2 << 30
    tagimage_shape: Literal["example", "table"] = "example"
