"""Checks VIAPI's replies: an error by its code, a success by reading it whole, so that a broken one is told at once."""

from __future__ import annotations

from typing import NoReturn

import msgspec

from imgtag_pipeline.model import Call, Reply
from imgtag_pipeline.providers.alibaba_viapi import jobs as viapi_jobs
from imgtag_pipeline.providers.alibaba_viapi import upload as viapi_upload
from imgtag_pipeline.providers.alibaba_viapi.actions import ACTIONS
from imgtag_pipeline.providers.alibaba_viapi.codes import verdict
from imgtag_pipeline.providers.alibaba_viapi.reading import Envelope, answer_of, envelope_of, logos_of
from imgtag_pipeline.providers.toolkit.codes import error_of, malformed, said
from imgtag_pipeline.providers.toolkit.decode import Malformed, is_blank, text


def check(action: str, call: Call, reply: Reply) -> None:
    """Return for a success of this action, its polls or its uploads; else raise what the code stands for."""
    is_success = 200 <= reply.status < 300
    envelope = Envelope()
    try:
        envelope = reply.once(envelope_of)
        if is_success and not _is_error(envelope):
            _read(action, call.operation, envelope, reply)
            return
    except Malformed as problem:
        if is_success:
            # A job that was taken is not bought again, though its id did not come.
            is_submission = call.is_billable and ACTIONS[action].is_job
            raise malformed(
                problem,
                request_id=said(envelope.request_id),
                is_billable=call.is_billable,
                max_attempts=1 if is_submission else 2,
            ) from None
    _raise(envelope, reply)


def _read(action: str, operation: str, envelope: Envelope, reply: Reply) -> None:
    text(envelope.request_id)
    if operation == viapi_upload.AUTHORIZE:
        reply.once(viapi_upload.form_of)
    elif operation == "GetAsyncJobResult":
        reply.once(viapi_jobs.state_of)
    elif ACTIONS[action].is_job:
        reply.once(viapi_jobs.submission_of)
    elif envelope.data is msgspec.UNSET:
        raise Malformed("the answer has no Data")
    elif action == "RecognizeLogo":
        reply.once(logos_of)
    else:
        reply.once(answer_of, action)


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
