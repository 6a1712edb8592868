"""TaggingAdImage's conversation: submit, remember the job, poll with growing waits, submit again where that helps.

`Status` decides, not `ErrorCode`. Polls are free, so a job of an earlier run is asked for first and bought again only
when the vendor does not know its id any more, or after the day for which it lists jobs. Time is counted by the waits
and by the `Date` of the replies, so no clock is needed.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

from imgtag_pipeline.errors import Billing, FatalError, PermanentError, TransientError
from imgtag_pipeline.model import Answer, Call, Image, Job, Reply, Result, SaveJob, Step, Tag, ask
from imgtag_pipeline.providers.alibaba_viapi.codes import verdict
from imgtag_pipeline.providers.alibaba_viapi.reading import envelope_of, job_info, read_ad, read_job_result
from imgtag_pipeline.providers.toolkit.codes import PERMANENT, said
from imgtag_pipeline.providers.toolkit.decode import Malformed, is_blank, row, text
from imgtag_pipeline.providers.toolkit.image_modes import Handed

LISTED: Final = timedelta(hours=24)
MAX_SUBMITS: Final = 3
GROWTH: Final = 1.5
LONGEST_WAIT: Final = 15.0
WAIT_BEFORE_RETRY: Final = 30.0

# Status -> what to do; anything else is taken for running, until the time is up.
STATES: Final[dict[str, str]] = {
    "QUEUING": "wait",
    "PROCESSING": "wait",
    "PROCESS_SUCCESS": "read",
    "PROCESS_FAILED": "by code",
    "TIMEOUT_FAILED": "submit",
    "LIMIT_RETRY_FAILED": "wait and submit",
    "JOB_CANCELED": "fail",
}
# Failed calls are not billed (https://help.aliyun.com/document_detail/202489.html); so a job is settled when it ends.
UNBILLED: Final = frozenset(("PROCESS_FAILED", "TIMEOUT_FAILED", "LIMIT_RETRY_FAILED", "JOB_CANCELED"))
UNKNOWN: Final = frozenset(("UNKNOWN", "EXPIRED"))  # the vendor does not tell how the job ended


class Submitting(Protocol):
    """The part of the provider that a job needs."""

    @property
    def poll_every(self) -> float:
        """Seconds before the first poll."""
        ...

    @property
    def job_timeout(self) -> float:
        """Seconds that a job is waited for."""
        ...

    @property
    def fit(self) -> bool:
        """Whether images are made to keep to the limits."""
        ...

    def locate(self, image: Image) -> Generator[Step, Any, Handed | PermanentError | TransientError]:
        """Where the vendor fetches the image from."""
        ...

    def hand(self, image: Image) -> Generator[Step, Any, Handed | PermanentError]:
        """The image as it is handed over, nothing uploaded yet."""
        ...

    def action_call(self, parameters: Mapping[str, str], wait: float) -> Call:
        """The call that submits a job."""
        ...

    def poll_call(self, job_id: str, wait: float) -> Call:
        """One look at a job."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """What a poll says; `tags` once the job is done."""

    status: str
    tags: tuple[Tag, ...] | None = None
    code: str | None = None
    message: str | None = None
    is_expired: bool = False


def submission_of(reply: Reply) -> str | Answer:
    """The id of the new job; or the answer itself, should it come at once. Raises `Malformed`."""
    envelope = reply.once(envelope_of)
    job_id = text(envelope.request_id)
    info = job_info(envelope.data)
    if not is_blank(info):
        return Answer(read_ad(info), job_id)
    if job_id is None:
        raise Malformed("the answer has no RequestId, which is the job's id")
    return job_id


def state_of(reply: Reply) -> State:
    """The state of a job that a poll tells. Raises `Malformed`."""
    fields = row(reply.once(envelope_of).data)
    status = text(fields.get("Status"))
    if status is None:
        raise Malformed("the answer has no Status")
    status = status.upper()
    if status != "PROCESS_SUCCESS":
        return State(status, None, said(fields.get("ErrorCode")), said(fields.get("ErrorMessage")))
    try:
        return State(status, read_job_result(fields.get("Result")))
    except Malformed as problem:
        # The job is done and paid for: asking again gives the same, and buying again most likely too.
        return State(status, code="MalformedResult", message=str(problem))


def converse(provider: Submitting, image: Image, known: Job | None) -> Generator[Step, Any, Result]:
    """The answer for one image; `known` is a job of an earlier run, which is looked at before anything is bought."""
    job_id = known.job_id if known is not None else None
    started = known.submitted_at if known is not None else None
    failure: State | None = None
    located: Handed | None = None
    for _ in range(MAX_SUBMITS):
        if job_id is None:
            is_busy = failure is not None and STATES.get(failure.status) == "wait and submit"
            found = yield from provider.locate(image)
            if not isinstance(found, Handed):
                return found
            located = found
            submitted = yield from _submit(provider, image, located, WAIT_BEFORE_RETRY if is_busy else 0.0)
            if not isinstance(submitted, str):
                return submitted
            job_id, started = submitted, None
        state = yield from _wait(provider, job_id, started)
        if state is None:
            raise TransientError(
                f"the job {job_id} is not done after {provider.job_timeout:g} s; a later run asks for it again",
                code="JobUnfinished",
                request_id=job_id,
            )
        if state.tags is not None:
            located = located or (yield from _handed_before(provider, image))
            return located.told(Answer(state.tags, job_id))
        if not _is_submitted_again(state):
            return _failure(state, job_id)
        failure, failed_id, job_id = state, job_id, None
    assert failure is not None
    return _failure(failure, failed_id)


def _submit(provider: Submitting, image: Image, located: Handed, wait: float) -> Generator[Step, Any, str | Answer]:
    """The id of a new job, remembered; or the answer itself, should it come at once."""
    call = replace(provider.action_call({"ImageURL": located.url or ""}, wait), is_settled_later=True)
    submitted = (yield from ask(call)).once(submission_of)
    if isinstance(submitted, str):
        yield SaveJob(image, submitted)
        return submitted
    return located.told(submitted)


def _handed_before(provider: Submitting, image: Image) -> Generator[Step, Any, Handed]:
    """How an earlier run handed the image over: fitting gives the same each time."""
    if provider.fit:
        try:
            handed = yield from provider.hand(image)
            if isinstance(handed, Handed):
                return handed
        except (PermanentError, TransientError):
            pass
    return Handed()


def _wait(provider: Submitting, job_id: str, started: datetime | None) -> Generator[Step, Any, State | None]:
    """The job's last state; None when the time is up. A job of an earlier run is looked at at once."""
    wait = 0.0 if started is not None else provider.poll_every
    waited = 0.0
    while True:
        try:
            reply = yield from ask(provider.poll_call(job_id, wait))
        except PermanentError as error:
            # The id of an earlier run's job may have expired; one that was given just now has not, whatever is wrong.
            is_expired = started is not None and _is_unknown_id(error)
            return State("UNKNOWN", code=error.code, message=str(error), is_expired=is_expired)
        waited += wait
        state = reply.once(state_of)
        action = STATES.get(state.status, "wait")
        if action != "wait":
            return state
        if started is not None and _is_over(reply, started):
            return State("EXPIRED", is_expired=True)
        if waited >= provider.job_timeout:
            return None
        wait = min(max(wait, provider.poll_every / GROWTH) * GROWTH, LONGEST_WAIT)


def _is_over(reply: Reply, started: datetime) -> bool:
    """Whether the server's clock says that the job is older than the vendor lists any."""
    try:
        now = parsedate_to_datetime(reply.headers.get("date", "")).astimezone(UTC)
    except (TypeError, ValueError):
        return False
    return now - started > LISTED


def _is_unknown_id(error: PermanentError) -> bool:
    """InvalidParameter.BadRequest stands for an id that is unknown or has expired."""
    return error.code.startswith(("InvalidParameter", "InvalidJob", "ParameterError")) or error.code == "HTTP404"


def _is_submitted_again(state: State) -> bool:
    action = STATES.get(state.status, "")
    if action == "by code":  # a code with a limit of its own (a dead link) would meet the same again
        found = verdict(state.code, 400) if state.code is not None else PERMANENT
        return not issubclass(found.error, (PermanentError, FatalError)) and found.max_attempts is None
    return state.is_expired or action in ("submit", "wait and submit")


def _failure(state: State, job_id: str) -> PermanentError:
    code = state.code or state.status
    detail = f", {state.message}" if state.message else ""
    billing: Billing = "no" if state.status in UNBILLED else "unknown" if state.status in UNKNOWN else "yes"
    if STATES.get(state.status) == "by code" and issubclass(verdict(code, 400).error, FatalError):
        raise FatalError(f"the job ended as {state.status}: {code}{detail}", code=code, request_id=job_id)
    return PermanentError(
        f"the job ended as {state.status}: {code}{detail}", code=code, request_id=job_id, billing=billing
    )
