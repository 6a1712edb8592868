"""A loopback cloud for tests: one call starts it, and everything that it billed can be asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imgtag_pipeline.core.clock import Clock
    from imgtag_pipeline.emulator import Emulator


@contextlib.contextmanager
def running_emulator(*, clock: Clock | None = None, **options: Any) -> Iterator[Emulator]:
    """An emulator in a thread of its own; `options` are those of `EmulatorOptions`, but there is no quota by default.

    Use its `url` as endpoint, `ledger` for what was called and billed, and `faults` to break things.
    """
    from imgtag_pipeline.emulator import EmulatorOptions, run_in_thread

    with run_in_thread(EmulatorOptions(**{"qps": None, **options}), clock=clock) as emulator:
        yield emulator


def environment(emulator: Emulator) -> dict[str, str]:
    """The credentials of the emulator's first account, by the names of the environment variables."""
    from imgtag_pipeline.emulator import credentials

    return credentials(emulator.options.accounts[0])


def put_object(emulator: Emulator, bucket: str, key: str, data: bytes) -> str:
    """Store an object in the emulator's OSS, signed with its first account's keys; gives back its `oss://` address."""
    import http.client
    from datetime import UTC, datetime
    from urllib.parse import quote, urlencode, urlsplit

    from imgtag_pipeline.core.signing import oss_v4

    account = emulator.options.accounts[0]
    query = oss_v4.presign(
        "PUT",
        bucket,
        key,
        {},
        {},
        region=emulator.options.oss.region,
        access_key_id=account.key_id,
        access_key_secret=account.secret,
        security_token=account.security_token,
        now=datetime.now(UTC),
        expires_in=600,
    )
    connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=10)
    try:
        connection.request("PUT", f"/{bucket}/{quote(key)}?{urlencode(query)}", data)
        reply = connection.getresponse()
        if reply.status != 200:
            raise RuntimeError(f"the emulator did not take the object: {reply.status} {reply.read()[:500]!r}")
    finally:
        connection.close()
    return f"oss://{bucket}/{key}"
