"""The emulator's own doors under `/_emulator/`: ledger, reset, faults, health, and the pictures of a folder."""

from __future__ import annotations

import json
import mimetypes
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final
from urllib.parse import unquote

from imgtag_pipeline.emulator.faults import FaultPlan, parse_all
from imgtag_pipeline.emulator.gateway import WireReply, WireRequest
from imgtag_pipeline.emulator.ledger import Ledger
from imgtag_pipeline.emulator.pictures import Pictures
from imgtag_pipeline.errors import ConfigError

CONTROL: Final = "/_emulator/"


class Control:
    """Answers what a test or a benchmark asks of the emulator itself; nothing here is counted or billed."""

    def __init__(self, pictures: Pictures, ledger: Ledger, faults: FaultPlan, reset: Callable[[], None]) -> None:
        self._pictures = pictures
        self._ledger = ledger
        self._faults = faults
        self._reset = reset

    async def answer(self, request: WireRequest) -> WireReply:
        """One control request."""
        door = request.path.removeprefix(CONTROL)
        if door == "health":
            return _json({"status": "ok", "calls": self._ledger.calls})
        if door == "ledger":
            return _json(self._read_ledger(with_entries="entries" in request.query))
        if door == "reset" and request.method == "POST":
            self._reset()
            return _json({"status": "ok"})
        if door == "faults" and request.method == "POST":
            return self._set_faults(request.body.decode())
        if door.startswith("images/"):
            return self._image(unquote(door.removeprefix("images/")))
        return _json({"error": f"no such door: {request.method} {CONTROL}{door}"}, status=404)

    def _read_ledger(self, *, with_entries: bool) -> dict[str, Any]:
        found = self._ledger.summary()
        if with_entries:
            found["entries"] = [asdict(entry) for entry in self._ledger]
        return found

    def _set_faults(self, text: str) -> WireReply:
        try:
            faults = parse_all(json.loads(text) if text.startswith("[") else [text])
        except (ConfigError, ValueError) as error:
            return _json({"error": str(error)}, status=400)
        self._faults.set(faults)
        return _json({"faults": [asdict(fault) for fault in faults]})

    def _image(self, name: str) -> WireReply:
        data = self._pictures.read(name)
        if data is None:
            return _json({"error": f"no such picture: {name}"}, status=404)
        return WireReply(200, data, content_type=mimetypes.guess_type(name)[0] or "application/octet-stream")


def _json(data: Any, status: int = 200) -> WireReply:
    return WireReply(status, json.dumps(data, ensure_ascii=False).encode())
