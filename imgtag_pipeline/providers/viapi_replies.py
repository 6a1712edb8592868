"""Checks VIAPI's replies: an error by its code, a success by reading it whole, so that a broken one is told at once."""

from __future__ import annotations

from typing import NoReturn

import msgspec

from imgtag_pipeline.model import Call, Reply
from imgtag_pipeline.providers import viapi_jobs, viapi_upload
from imgtag_pipeline.providers.codes import error_of, malformed, said
from imgtag_pipeline.providers.decode import Malformed, decode, is_blank, text
from imgtag_pipeline.providers.viapi_actions import ACTIONS
from imgtag_pipeline.providers.viapi_codes import verdict
from imgtag_pipeline.providers.viapi_reading import Envelope, job_info, read_ad, read_logos, read_tags


def check(action: str, call: Call, reply: Reply) -> None:
    """Return for a success of this action, its polls or its uploads; else raise what the code stands for."""
    is_success = 200 <= reply.status < 300
    try:
        envelope = decode(reply.body, Envelope)
    except Malformed as problem:
        if is_success:
            raise malformed(problem, is_billable=call.is_billable) from None
        envelope = Envelope()
    if not is_success or _is_error(envelope):
        _raise(envelope, reply)
    try:
        _read(action, call.operation, envelope, reply)
    except Malformed as problem:
        raise malformed(problem, request_id=said(envelope.request_id), is_billable=call.is_billable) from None


def _read(action: str, operation: str, envelope: Envelope, reply: Reply) -> None:
    text(envelope.request_id)
    if operation == viapi_upload.AUTHORIZE:
        viapi_upload.read_form(reply.body)
    elif operation == "GetAsyncJobResult":
        viapi_jobs.read_state(envelope.data)
    elif ACTIONS[action].is_job:
        info = job_info(envelope.data)
        if not is_blank(info):
            read_ad(info)
        elif text(envelope.request_id) is None:
            raise Malformed("the answer has no RequestId, which is the job's id")
    elif envelope.data is msgspec.UNSET:
        raise Malformed("the answer has no Data")
    elif action == "RecognizeLogo":
        read_logos(envelope.data)
    else:
        read_tags(ACTIONS[action], envelope.data)


def _is_error(envelope: Envelope) -> bool:
    """Whether a body under HTTP 2xx is an error: it has a code and no data."""
    code = said(envelope.code) or said(envelope.small_code)
    has_data = envelope.data is not msgspec.UNSET and not is_blank(envelope.data)
    return code is not None and not has_data and code.lower() not in ("0", "200", "ok", "success")


def _raise(envelope: Envelope, reply: Reply) -> NoReturn:
    # The manual prints two codes with stray blanks where lines break; a code has none.
    code = (said(envelope.code) or said(envelope.small_code) or f"HTTP{reply.status}").replace(" ", "")[:100]
    raise error_of(
        verdict(code, reply.status),
        code=code,
        message=said(envelope.message) or said(envelope.small_message),
        request_id=said(envelope.request_id),
        billing="no",
        reply=reply,
    )
