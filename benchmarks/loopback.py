"""What the benchmarks share: an emulator in a process of its own, and one call as one signs it by hand."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlencode

from imgtag_pipeline.core.signing import rpc

ACTION = "TaggingImage"
SERVER = """
from imgtag_pipeline.emulator import EmulatorOptions, run_in_thread
with run_in_thread(EmulatorOptions(qps={qps}, is_synthetic=True, latency={latency}, kept_entries=1)) as cloud:
    print(cloud.url, flush=True)
    input()  # ends with the benchmark, however that ends
"""


@contextmanager
def cloud(*, qps: float | None, latency: float) -> Iterator[str]:
    """The address of a fresh emulator that runs in a process of its own."""
    command = [sys.executable, "-c", SERVER.format(qps=qps, latency=latency)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def signed(image: str) -> tuple[str, dict[str, str]]:
    """Query and form fields of one call."""
    query, fields = {"Action": ACTION, "Version": "2019-09-30", "Format": "JSON"}, {"ImageURL": image}
    query |= rpc.sign(
        "POST",
        {**fields, **query},
        access_key_id="emulator",
        access_key_secret="emulator",
        security_token=None,
        now=datetime.now(UTC),
        nonce=uuid.uuid4().hex,
    )
    return urlencode(query), fields
