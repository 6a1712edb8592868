"""VIAPI's asynchronous jobs: submitted, polled while they wait and run, done, and forgotten after half an hour."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from imgtag_pipeline.emulator.alibaba_viapi.codes import CODES
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.gateway import Refused

SUBMITTED: Final = "该调用为异步调用，任务已提交成功，请以requestId的值作为jobId参数调用同类目下GetAsyncJobResult接口查询任务执行状态和结果。"  # noqa: E501
_KEPT: Final = 10_000
_ENDS: Final = {
    "PROCESS_FAILED": "InternalError.Process",
    "TIMEOUT_FAILED": "Timeout",
    "LIMIT_RETRY_FAILED": "Throttling.Api",
}


@dataclass(slots=True)
class Job:
    """One task: what it will find, or the code it will fail with."""

    account: str
    submitted: float
    end: str
    found: dict[str, Any] | None = None
    code: str = ""
    polls: int = 0


class Jobs:
    """All jobs of one emulator."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._jobs: dict[str, Job] = {}
        self._submitted = 0

    def submit(self, job_id: str, account: str, found: dict[str, Any] | None, code: str = "") -> bool:
        """Start a job; one without a find fails with `code`. Whether it will succeed, and so be billed."""
        ends = self._cloud.options.job_statuses
        end = ends[min(self._submitted, len(ends) - 1)]
        self._submitted += 1
        if len(self._jobs) >= _KEPT:
            self._forget()
        self._jobs[job_id] = Job(account, self._cloud.clock.monotonic(), end, found, code)
        return found is not None and end == "PROCESS_SUCCESS"

    def poll(self, job_id: str, account: str) -> dict[str, Any]:
        """The `Data` of an answer to a poll; refuses an unknown job, one of another account, an expired one."""
        options, now = self._cloud.options, self._cloud.clock.monotonic()
        job = self._jobs.get(job_id)
        if job is None or job.account != account or now - job.submitted > options.job_expires_after:
            raise Refused("InvalidParameter.BadRequest", "The job does not exist or has expired.")
        job.polls += 1
        if job.polls <= options.job_polls or now - job.submitted < options.job_seconds:
            return {"JobId": job_id, "Status": "QUEUING" if job.polls == 1 else "PROCESSING"}
        if job.found is None:
            return self._failed(job_id, "PROCESS_FAILED", job.code)
        if job.end != "PROCESS_SUCCESS":
            return self._failed(job_id, job.end, _ENDS.get(job.end, ""))
        return {"JobId": job_id, "Status": "PROCESS_SUCCESS", "Result": self._result(job.found)}

    def _forget(self) -> None:
        oldest = self._cloud.clock.monotonic() - self._cloud.options.job_expires_after
        self._jobs = {key: job for key, job in self._jobs.items() if job.submitted >= oldest}

    def _result(self, found: dict[str, Any]) -> str:
        value = json.dumps({"tagInfo": found}, ensure_ascii=False)
        text = json.dumps({"tags": [{"confidence": -1, "value": value}]}, ensure_ascii=False)
        if self._cloud.options.shape == "collapsed":  # the manual's example has one level of escaping more
            return json.dumps(text, ensure_ascii=False)[1:-1]
        return text

    def _failed(self, job_id: str, status: str, code: str) -> dict[str, Any]:
        data = {"JobId": job_id, "Status": status}
        if code:
            data |= {"ErrorCode": code, "ErrorMessage": CODES[code].message if code in CODES else code}
        return data


def submitted_body(reply_id: str) -> dict[str, Any]:
    """The answer to a submit: its RequestId is the id of the job."""
    return {"RequestId": reply_id, "Message": SUBMITTED}
