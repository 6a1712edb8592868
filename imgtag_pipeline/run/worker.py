"""Workers take images, ask about them, and resolve them once their outcomes are in the journal."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imgtag_pipeline.core.clock import Clock
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Image, Outcome
from imgtag_pipeline.run.batches import Pending
from imgtag_pipeline.run.breaker import Breaker
from imgtag_pipeline.run.conversation import ConversationRunner
from imgtag_pipeline.run.in_flight import InFlight
from imgtag_pipeline.run.places import Place
from imgtag_pipeline.run.report import Spent, Tally
from imgtag_pipeline.run.spellings import is_refused_url, with_others
from imgtag_pipeline.run.store import Store
from imgtag_pipeline.run.worker_pool import WorkerPool


@dataclass(slots=True, eq=False, repr=False)
class ImageWorker:
    """One exchange after the other, by as many workers as run `work()`. `stop` ends the run with an error.

    Of the exchanges only so many are active as `free` has places; one that waits to try again holds none.
    """

    store: Store
    talker: ConversationRunner
    tally: Tally
    pending: Pending
    flights: InFlight
    crew: WorkerPool
    breaker: Breaker
    passing: dict[str, Outcome]
    mended: set[str]
    batch_size: int
    free: asyncio.Semaphore
    clock: Clock
    stop: Callable[[BaseException], None]
    tell: Callable[[], None]

    async def work(self) -> None:
        """Ask about what waits, until nothing does any more or the run is stopped."""
        while images := await self.pending.take(self.batch_size):
            todo = [images]
            while todo:
                part = todo.pop()
                try:
                    async with Place(self.free, self.clock, self.crew.one_more) as place:
                        is_split = not await self._ask(part, place)
                except BaseException as error:
                    self.flights.give_up(part)
                    for rest in todo:
                        self.flights.give_up(rest)
                    if isinstance(error, asyncio.CancelledError):
                        return
                    self.stop(error)
                    return
                if is_split:
                    middle = len(part) // 2
                    todo += [part[middle:], part[:middle]]

    async def _ask(self, images: Sequence[Image], place: Place) -> bool:
        keys = [image.key for image in images]
        spent = Spent(rest=place.rest)
        try:
            outcomes = await self.talker.outcomes(images, self.store.jobs(keys), spent)
        except BaseException:
            await self._part_with(keys, spent)
            raise
        if outcomes is None:
            await self._part_with(keys, spent)
            return False
        tried: list[set[str]] = [set() for _ in images]
        outcomes = [
            await with_others(image, outcome, self._ask_again, self.flights.another, used)
            for image, outcome, used in zip(images, outcomes, tried, strict=True)
        ]
        await self._finish(outcomes, is_billed=spent.billed != "no")
        refused = [pair for pair in zip(outcomes, tried, strict=True) if is_refused_url(pair[0])]
        for outcome in outcomes:
            if not is_refused_url(outcome):
                self.flights.land(outcome.key)
        for outcome, used in refused:
            await self._try_later_ones(outcome, used)
            self.flights.land(outcome.key)
        self.tell()
        return True

    async def _finish(self, outcomes: Sequence[Outcome], *, is_billed: bool) -> None:
        """Keep the outcomes and count them."""
        self.crew.on_sending(1)
        try:
            await self._keep(outcomes)
        except BaseException:
            if is_billed:
                self.tally.unknown_keys.extend(outcome.key for outcome in outcomes)
            raise
        finally:
            self.crew.on_sending(-1)
        for outcome in outcomes:
            self.tally.outcome(outcome)
            if (opened := self.breaker.note(outcome)) is not None:
                self.stop(opened)
            if outcome.billed == "unknown":
                self.tally.unknown_keys.append(outcome.key)

    async def _try_later_ones(self, outcome: Outcome, tried: set[str]) -> None:
        """Ask by references that came in while the refusal of the earlier ones was written down."""
        while is_refused_url(outcome) and (url := self.flights.another(outcome.key, tried)) is not None:
            if outcome.key not in await self.store.claim([outcome.key]):
                return
            image = Image(outcome.key, url)
            try:
                outcome = await with_others(
                    image, await self._ask_again(image), self._ask_again, self.flights.another, tried
                )
            except BaseException:
                if (earlier := self.passing.pop(outcome.key, None)) is not None:
                    self.tally.take_back(earlier)
                raise
            await self._finish([outcome], is_billed=outcome.billed != "no")

    async def _ask_again(self, image: Image) -> Outcome:
        """The outcome of one image by another of its references."""
        spent = Spent()
        try:
            outcomes = await self.talker.outcomes([image], self.store.jobs([image.key]), spent)
        except BaseException:
            await self._part_with([image.key], spent)
            raise
        assert outcomes is not None  # one image is not split
        return outcomes[0]

    async def _part_with(self, keys: Sequence[str], spent: Spent) -> None:
        """These stay without an answer: say so where that may have cost something, take the marks back where not."""
        if spent.billed == "no" and spent.is_marked:
            with contextlib.suppress(StoreError):
                await self.store.clear_sent(keys)
        elif spent.billed != "no" and not spent.has_job:
            self.tally.unknown_keys.extend(keys)

    def _settle_earlier(self, outcomes: Sequence[Outcome]) -> None:
        """Failures of this run that these outcomes take the place of count no more."""
        for outcome in outcomes:
            if (earlier := self.passing.pop(outcome.key, None)) is not None:
                self.tally.take_back(earlier)
                self.mended.add(outcome.key)

    async def _keep(self, outcomes: Sequence[Outcome]) -> None:
        """Journal what is final; a passing failure stays in this run only, and the next one asks again."""
        if final := [outcome for outcome in outcomes if outcome.is_final]:
            await self.store.save(final)
            self._settle_earlier(final)
        for outcome in outcomes:
            if not outcome.is_final:
                self._settle_earlier([outcome])
                self.passing[outcome.key] = outcome
                if outcome.billed == "no":
                    await self.store.clear_sent([outcome.key])
                await self.store.release([outcome.key])
