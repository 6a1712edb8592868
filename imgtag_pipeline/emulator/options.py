"""What an emulator is built with: its accounts, its limits, and where the images are that it answers about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from imgtag_pipeline.emulator.alibaba_oss.options import OssOptions
from imgtag_pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Account:
    """A key that the emulator accepts; keys with one `name` share their quotas.

    `security_token` makes it a temporary key that is good until `expires_at` (seconds since 1970).
    `refusal` answers every call with this code (an inactive key, an API that was not purchased).
    """

    key_id: str = "emulator"
    secret: str = field(default="emulator", repr=False)
    app_id: str = "1000001"
    name: str = "emulator"
    security_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class EmulatorOptions:
    """How the emulator behaves; the defaults are a vendor on a good day.

    `qps` is per account and action, None for no limit, and `action_qps` sets it for single actions. `latency` is
    seconds added to each answer. `faults` are as in `faults.parse`. `fixtures` is a JSON file of answers by URL or
    base name. `images` is a folder served at `/_emulator/images/`, and one that `file://` references may lie in.
    With `is_synthetic` answers are derived from a hash of the reference and no image is fetched. `shape` "collapsed"
    prints a list of one as the manuals do, as an object. `clock_offset` is how far the emulator's clock is ahead.
    `job_polls` is how many polls an asynchronous job answers before it is done, `job_seconds` how long it lasts at
    least; `job_statuses` is how the first, second ... job ends (the last one counts for all that follow).
    `foreign_hosts` "refuse" has VIAPI refuse images that are not in an OSS bucket in Shanghai.
    `oss` is about the object storage alone.
    """

    host: str = "127.0.0.1"
    port: int = 0
    qps: float | None = 2.0
    action_qps: Mapping[str, float | None] = field(default_factory=dict)
    latency: float = 0.0
    faults: tuple[str, ...] = ()
    seed: int = 0
    accounts: tuple[Account, ...] = (Account(),)
    fixtures: Path | None = None
    images: Path | None = None
    is_synthetic: bool = False
    shape: Literal["list", "collapsed"] = "list"
    clock_offset: float = 0.0
    clock_tolerance: float = 900.0
    job_polls: int = 2
    job_seconds: float = 0.0
    job_statuses: tuple[str, ...] = ("PROCESS_SUCCESS",)
    job_expires_after: float = 1800.0
    foreign_hosts: Literal["accept", "refuse"] = "accept"
    max_body_bytes: int = 1 << 30
    kept_entries: int = 100_000
    oss: OssOptions = field(default_factory=OssOptions)

    def __post_init__(self) -> None:
        for qps in (self.qps, *self.action_qps.values()):
            if qps is not None and not qps > 0:
                raise ConfigError(f"qps must be more than 0, or None for no limit; not {qps}")
        if min(self.latency, self.job_seconds, self.job_polls, self.clock_tolerance) < 0:
            raise ConfigError("latency, job_seconds, job_polls and clock_tolerance cannot be negative")
        if self.images is not None and not self.images.is_dir():
            raise ConfigError(f"the folder of pictures {str(self.images)!r} does not exist")
