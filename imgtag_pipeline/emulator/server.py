"""The emulator's core: one loopback server for all families, which counts, throttles, breaks and bills on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Final

from aiohttp import web

from imgtag_pipeline.core.clock import Clock, SystemClock
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.control import CONTROL, Control
from imgtag_pipeline.emulator.delivery import drop, page, send, send_broken
from imgtag_pipeline.emulator.faults import BEFORE, Fault, FaultPlan, parse_all
from imgtag_pipeline.emulator.gateway import Admission, Family, Refused, WireReply, WireRequest
from imgtag_pipeline.emulator.gateways import all_families
from imgtag_pipeline.emulator.ledger import Entry, Ledger
from imgtag_pipeline.emulator.options import EmulatorOptions
from imgtag_pipeline.emulator.quotas import SlidingWindow
from imgtag_pipeline.errors import ConfigError

FAULT_HEADER: Final = "x-emulator-fault"


class Emulator:
    """All gateways on one loopback port, from `start` to `stop`; also an async context manager.

    `ledger` and `faults` may be read and set while it runs (in its own thread); `url` is known after `start`.
    """

    def __init__(
        self,
        options: EmulatorOptions | None = None,
        *,
        clock: Clock | None = None,
        families: Callable[[Cloud], Sequence[Family]] | None = None,
    ) -> None:
        self.options = options or EmulatorOptions()
        self.clock = clock or SystemClock()
        self.ledger = Ledger(self.options.kept_entries)
        self.faults = FaultPlan(parse_all(self.options.faults), self.options.seed)
        self.cloud = Cloud(self.options, self.clock, self.ledger)
        self._families = tuple((families or all_families)(self.cloud))
        self._control = Control(self.cloud.pictures, self.ledger, self.faults, self.reset)
        self._windows: dict[tuple[str, str], SlidingWindow] = {}
        self._runner: web.ServerRunner | None = None
        self._dated = (0, "")

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return self.cloud.url

    async def start(self) -> None:
        """Listen; raises `OSError` when the port is taken."""
        server = web.Server(
            self._handle, access_log=None, auto_decompress=False, max_line_size=1 << 16, max_field_size=1 << 16
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.options.host, self.options.port, backlog=4096)
        await site.start()
        port = self._runner.addresses[0][1]
        self.cloud.listens_at(f"http://{self.options.host}:{port}")

    async def stop(self) -> None:
        """Stop listening and drop open connections."""
        if self._runner is not None:
            server = self._runner.server
            for connection in server.connections if server else ():
                if connection.transport is not None:
                    connection.transport.abort()
            await self._runner.cleanup()
            self._runner = None
        await self.cloud.close()

    async def __aenter__(self) -> Emulator:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def reset(self) -> None:
        """Forget the ledger and the running quota windows; faults, objects and jobs stay."""
        self.ledger.clear()
        self._windows.clear()

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._route(http)
        except ConnectionResetError:  # the client went away: its own affair, and nobody is left to tell
            return drop(http)

    async def _route(self, http: web.BaseRequest) -> web.StreamResponse:
        arrived = self.clock.monotonic()
        request = await _received(http, arrived, self.options.max_body_bytes)
        if request.path.startswith(CONTROL):
            return await send(http, await self._control.answer(request))
        for family in self._families:
            if family.matches(request):
                try:
                    return await self._serve(http, request, family)
                except ConfigError as error:  # the call asked for a fault that there is none of
                    return await send(http, page(400, str(error)))
        return await send(http, page(404, "no gateway here"))

    async def _serve(self, http: web.BaseRequest, request: WireRequest, family: Family) -> web.StreamResponse:
        """One call at one gateway: who is it, may it now, what goes wrong, the answer, the bill, the delivery."""
        try:
            admission = family.admit(request)
        except Refused as refusal:
            entry = self.ledger.open(self._epoch(), request.arrived, family.name, Admission("", "refused", (), False))
            return await self._deliver(http, entry, family.refuse(request, refusal), None)
        entry = self.ledger.open(self._epoch(), request.arrived, family.name, admission)
        if admission.is_limited and not self._is_within_quota(admission, request.arrived):
            fault: Fault | None = Fault("throttle")
        else:
            fault = self.faults.choose(admission, request.headers.get(FAULT_HEADER))
        if self.options.latency:
            await self.clock.sleep(self.options.latency)
        if fault is not None and fault.kind == "reset":
            self.ledger.close(entry, code="reset", status=0, request_id="", is_billed=False)
            return drop(http)
        if fault is not None and fault.kind in BEFORE:
            return await self._deliver(http, entry, _instead(family, request, fault), None)
        try:
            reply = await family.answer(request, admission)
        except Refused as refusal:
            reply = family.refuse(request, refusal)
        return await self._deliver(http, entry, reply, fault)

    async def _deliver(
        self, http: web.BaseRequest, entry: Entry, reply: WireReply, fault: Fault | None
    ) -> web.StreamResponse:
        self.ledger.close(
            entry, code=reply.code, status=reply.status, request_id=reply.request_id, is_billed=reply.is_billed
        )
        if "Date" not in reply.headers:
            reply.headers = {**reply.headers, "Date": self._date()}
        if fault is not None and fault.kind == "hang":
            await self.clock.sleep(fault.number(30.0))
            fault = None
        is_whole = fault is None or fault.kind == "slow"
        if is_whole:
            self.ledger.answered(entry)  # before it goes out, so that who has the answer finds it in the ledger
        is_sent = False
        try:
            response = await (send(http, reply) if fault is None else send_broken(http, reply, fault))
            is_sent = http.transport is not None and not http.transport.is_closing()
        finally:
            if is_whole and not is_sent:
                self.ledger.unanswered(entry)
        return response

    def _is_within_quota(self, admission: Admission, arrived: float) -> bool:
        qps = self.options.action_qps.get(admission.action, self.options.qps)
        if qps is None:
            return True
        key = (admission.account, admission.action)
        window = self._windows.get(key)
        if window is None or window.qps != qps:  # the options may be replaced while it runs
            window = self._windows[key] = SlidingWindow(qps)
        return window.admit(arrived)

    def _date(self) -> str:
        """The emulator's wall clock for a Date header, by which clients correct theirs."""
        second = int(self._epoch())
        if self._dated[0] != second:
            self._dated = (second, formatdate(second, usegmt=True))
        return self._dated[1]

    def _epoch(self) -> float:
        return self.cloud.now().timestamp()


def _instead(family: Family, request: WireRequest, fault: Fault) -> WireReply:
    """What is answered instead of the answer."""
    if fault.kind == "http":
        status = int(fault.number(502))
        return page(status, f"{status} from the gateway")
    if fault.kind == "html":
        return page(200, "Please log in")
    if fault.kind == "error":
        return family.refuse(request, Refused(fault.argument))
    wait = int(fault.number(0)) if fault.kind == "throttle" else 0
    reply = family.refuse(request, Refused(family.common[fault.kind], retry_after=wait or None))
    if wait:
        reply.headers = {"Retry-After": str(wait), **reply.headers}
    return reply


async def _received(http: web.BaseRequest, arrived: float, max_bytes: int) -> WireRequest:
    body = await _body(http, max_bytes) if http.body_exists else b""
    path, _, query = http.raw_path.partition("?")
    headers = http.headers
    authority = headers.get("Host", "")
    if not path.startswith("/") and "://" in path:  # a client that takes us for its proxy sends the whole URL
        rest = path.partition("://")[2]
        path = "/" + rest.partition("/")[2]
    name = authority.lower()
    host = name.rpartition(":")[0] if ":" in name else name
    return WireRequest(http.method, path, query, headers, body, arrived, host or name, authority)


async def _body(http: web.BaseRequest, max_bytes: int) -> bytes:
    if http.headers.get("Expect", "").lower() == "100-continue" and http.transport is not None:
        http.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    content = http.content
    body = await content.readany()
    if content.at_eof():
        return body
    chunks, size = [body], len(body)
    while chunk := await content.readany():
        size += len(chunk)
        if size > max_bytes:
            raise web.HTTPRequestEntityTooLarge(max_size=max_bytes)
        chunks.append(chunk)
    return b"".join(chunks)
