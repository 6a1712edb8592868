"""Drives one provider conversation to its outcomes: every step is carried out here, every failure becomes a row."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeGuard

from imgtag_pipeline.core import references
from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import (
    Billing,
    CallError,
    FatalError,
    ImgtagError,
    PermanentError,
    RefusedHereError,
    ThrottledError,
    TransientError,
)
from imgtag_pipeline.model import (
    Answer,
    Call,
    Compute,
    Exchange,
    Image,
    Job,
    Outcome,
    ReadImage,
    ReadImages,
    Reply,
    Result,
    SaveJob,
    Step,
)
from imgtag_pipeline.run.report import BILLINGS, Spent
from imgtag_pipeline.urls import redact

log = logging.getLogger("imgtag_pipeline")

# Computations that took too long and still run, of all runs of this process: a thread cannot be ended.
_GIVEN_UP: Final[dict[tuple[str, ...], Future[Any]]] = {}


class Conversational(Protocol):
    """The part of a provider that this stage needs."""

    def exchange(self, images: Sequence[Image], jobs: Mapping[str, Job]) -> Exchange:
        """The conversation about these images."""
        ...


@dataclass(slots=True)
class ConversationRunner:
    """Runs the conversations of one provider.

    `read` gives an image's bytes, `call` a reply; `save_job` remembers a task, `settle` says what it was billed.
    `threads` is how many the executor has.
    """

    provider: Conversational
    call: Callable[[Call, Sequence[str], Spent], Awaitable[Reply]]
    read: Callable[..., Awaitable[bytes]]
    save_job: Callable[[str, Job], Awaitable[None]]
    settle: Callable[[Billing, Spent], Awaitable[None]]
    executor: Executor
    clock: Clock
    threads: int = 1
    _hung: int = 0

    async def outcomes(
        self, images: Sequence[Image], jobs: Mapping[str, Job], spent: Spent | None = None
    ) -> list[Outcome] | None:
        """One outcome for each image, in order; None when a batch was refused, unbilled, for one image: to be split.

        What it uses up is counted in `spent`. Raises only what stops the run: `FatalError`, a cap, a broken store.
        """
        spent = spent or Spent()
        problems = [references.problem(image.url) for image in images]
        if any(problems):
            return await self._without(problems, images, jobs, spent)
        failure: CallError
        try:
            results = await self._converse(images, jobs, spent)
        except FatalError:
            raise
        except CallError as error:
            if isinstance(error, PermanentError) and len(images) > 1 and spent.billed == "no":
                return None
            failure = error
        except ImgtagError:
            raise
        except Exception as error:  # a foreign provider's fault is a row, as a bad image is
            failure = self._bug(error)
        else:
            return [
                _waiting(image, result) if _waits_alone(result, images) else _outcome(image, result, spent, share)
                for image, result, share in zip(images, results, spent.shares(len(images)), strict=True)
            ]
        return [
            _outcome(image, failure, spent, share)
            for image, share in zip(images, spent.shares(len(images)), strict=True)
        ]

    async def _without(
        self,
        problems: Sequence[CallError | None],
        images: Sequence[Image],
        jobs: Mapping[str, Job],
        spent: Spent,
    ) -> list[Outcome] | None:
        """The outcomes where some images are none: these are not shown to the provider, and cost nothing."""
        left = [image for image, problem in zip(images, problems, strict=True) if problem is None]
        found = await self.outcomes(left, jobs, spent) if left else []
        if found is None:
            return None
        answered = iter(found)
        return [
            next(answered) if problem is None else _outcome(image, problem, Spent(), 0)
            for image, problem in zip(images, problems, strict=True)
        ]

    async def _converse(
        self, images: Sequence[Image], jobs: Mapping[str, Job], spent: Spent
    ) -> Sequence[Result | CallError]:
        exchange = self.provider.exchange(images, jobs)
        billed: Billing = "unknown"
        try:
            step = next(exchange)
            while True:
                try:
                    value = await self._carry_out(step, images, spent)
                except CallError as error:
                    if isinstance(error, FatalError):
                        raise
                    step = exchange.throw(error)
                else:
                    step = exchange.send(value)
        except StopIteration as done:
            results: Sequence[Result] = done.value
            billed = max((_billing(result) for result in results), key=BILLINGS.index, default="unknown")
        finally:
            exchange.close()
            if spent.unsettled:
                await self.settle(billed, spent)
        if len(results) != len(images):
            raise ValueError(f"the exchange returned {len(results)} results for {len(images)} images")
        return results

    async def _carry_out(self, step: Step, images: Sequence[Image], spent: Spent) -> Any:
        match step:
            case Call():
                if step.is_settled_later:
                    await self.settle("no", spent)
                return await self.call(step, [image.key for image in images], spent)
            case ReadImage():
                return await self.read(step.image.url, spent, max_bytes=step.max_bytes, timeout=step.timeout)
            case ReadImages():
                return await self._read_all(step)
            case Compute():
                return await self._compute(step, images)
            case SaveJob():
                await self._save_job(step, spent)
                return None

    async def _read_all(self, step: ReadImages) -> tuple[bytes | CallError, ...]:
        """Each image's bytes or its error. Each waits out its own troubles, and all end together."""
        reads = [asyncio.ensure_future(self._read_one(image, step)) for image in step.images]
        try:
            return tuple(await asyncio.gather(*reads))
        finally:
            for read in reads:
                read.cancel()

    async def _read_one(self, image: Image, step: ReadImages) -> bytes | CallError:
        try:
            return await self.read(image.url, Spent(), max_bytes=step.max_bytes, timeout=step.timeout)
        except FatalError:
            raise
        except CallError as error:
            return error

    async def _save_job(self, step: SaveJob, spent: Spent) -> None:
        spent.has_job = True  # also when the wait is cut short: the id is written all the same
        try:
            await self.save_job(step.image.key, Job(step.job_id, self.clock.now()))
        except ImgtagError:
            spent.has_job = False
            raise

    async def _compute(self, step: Compute, images: Sequence[Image]) -> Any:
        """What the function returns. Only the time in which it runs counts, not the wait for a free thread."""
        key = tuple(image.key for image in (images if step.image is None else [step.image]))
        if (before := _GIVEN_UP.get(key)) is not None:  # one thread for an image: the earlier one ends first
            await asyncio.wait([asyncio.wrap_future(before)], timeout=step.timeout)
            if not before.done():
                raise _too_slow(step)
        loop = asyncio.get_running_loop()
        started = loop.create_future()
        work = self.executor.submit(_announced, step.function, partial(_tell, loop, started))
        future = asyncio.wrap_future(work)
        try:
            while not started.done() and not future.done():
                await asyncio.wait([started, future], timeout=step.timeout, return_when=asyncio.FIRST_COMPLETED)
                if self._hung >= self.threads and not started.done() and work.cancel():
                    raise _too_slow(step)  # every thread is busy with a picture that was given up
            done, _ = await asyncio.wait([future], timeout=step.timeout)
        except asyncio.CancelledError:
            self._give_up(key, work)
            raise
        if not done:
            self._give_up(key, work)
            raise _too_slow(step)
        return future.result()

    def _give_up(self, key: tuple[str, ...], work: Future[Any]) -> None:
        """Leave a computation to itself; while it runs, none of the same image begins."""
        if not work.cancel():
            _GIVEN_UP[key] = work
            self._hung += 1
            loop = asyncio.get_running_loop()
            work.add_done_callback(lambda _: self._ended(key, loop))

    def _ended(self, key: tuple[str, ...], loop: asyncio.AbstractEventLoop) -> None:
        """From a worker thread: a given-up computation has ended."""
        _GIVEN_UP.pop(key, None)
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            loop.call_soon_threadsafe(self._is_free_again)

    def _is_free_again(self) -> None:
        self._hung -= 1

    def _bug(self, error: Exception) -> PermanentError:
        log.error("event=provider_error type=%s detail=%s", type(error).__name__, redact(str(error)))
        return PermanentError(
            f"the provider raised {type(error).__name__}: {error}; this is a fault of the provider, not of the image",
            code="ProviderError",
        )


def _billing(result: Result) -> Billing:
    return "yes" if isinstance(result, Answer) else result.billing


def _announced(function: Callable[[], Any], begin: Callable[[], None]) -> Any:
    begin()
    return function()


def _tell(loop: asyncio.AbstractEventLoop, started: asyncio.Future[None]) -> None:
    """From a worker thread: the computation begins now."""

    def settle() -> None:
        if not started.done():
            started.set_result(None)

    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(settle)


def _too_slow(step: Compute) -> TransientError:
    return TransientError(
        f"tagging took longer than {step.timeout:g} s; run again when the machine is less busy, or raise timeout=",
        code="ComputeTimeout",
    )


def _waits_alone(result: Result | CallError, images: Sequence[Image]) -> TypeGuard[CallError]:
    """One image of a batch failed in passing, unbilled, while the others were answered and paid for."""
    is_passing = isinstance(result, TransientError | ThrottledError | RefusedHereError) and result.billing == "no"
    return is_passing and len(images) > 1


def _waiting(image: Image, error: CallError) -> Outcome:
    """The row of an image that the next run asks about again."""
    return Outcome(image.key, image.url, "failed", error_code=error.code, error=str(error), is_final=False)


def _outcome(image: Image, result: Result | CallError, spent: Spent, share: int | None) -> Outcome:
    """The row of one image: all calls of its exchange, and its share of their cost."""
    facts: dict[str, Any] = {"calls": spent.calls, "billed": spent.billed, "cost_micro_yuan": share}
    if isinstance(result, Answer):
        return Outcome(
            image.key,
            image.url,
            "ok" if result.tags else "empty",
            result.tags,
            error_code=None if result.tags else result.note,
            request_id=result.request_id,
            **facts,
        )
    return Outcome(
        image.key,
        image.url,
        "failed",
        error_code=result.code,
        error=str(result),
        request_id=result.request_id,
        is_final=not isinstance(result, TransientError | ThrottledError | RefusedHereError)
        or (spent.billed != "no" and not spent.has_job),
        **facts,
    )
