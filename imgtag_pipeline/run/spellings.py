"""Images that several references name: where the signature of one has expired, another is tried."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import Final

from imgtag_pipeline.model import Image, Outcome
from imgtag_pipeline.urls import is_signed

# What an expired signature comes to: the answer of the image's server, or of a vendor that could not fetch it.
_REFUSED: Final = re.compile(r"HTTP4(?:00|01|03|04|10)|InvalidImage\.Download|InvalidImage\.URL|IllegalUrlParameter")


def is_refused_url(outcome: Outcome) -> bool:
    """Whether a signed URL was refused, at no cost: signed anew, the image may well be answered."""
    is_free_failure = outcome.status == "failed" and outcome.billed == "no"
    return is_free_failure and _REFUSED.fullmatch(outcome.error_code or "") is not None and is_signed(outcome.url)


async def with_others(
    image: Image,
    outcome: Outcome,
    ask: Callable[[Image], Awaitable[Outcome]],
    another: Callable[[str, Collection[str]], str | None],
    tried: set[str],
) -> Outcome:
    """The outcome of the image, `another` reference to it tried in turn while it fails and nobody is billed.

    `tried` takes up each reference that was asked about.
    """
    calls = outcome.calls
    tried.add(image.url)
    while outcome.status == "failed" and outcome.billed == "no" and (url := another(image.key, tried)) is not None:
        tried.add(url)
        outcome = await ask(Image(image.key, url))
        calls += outcome.calls
        outcome = replace(outcome, calls=calls)
    return replace(outcome, is_final=False) if is_refused_url(outcome) else outcome
