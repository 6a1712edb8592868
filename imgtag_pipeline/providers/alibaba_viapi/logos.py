"""RecognizeLogo's conversation: several images in one call, and each of them its own row."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Protocol

from imgtag_pipeline.errors import PermanentError, TransientError
from imgtag_pipeline.model import Answer, Call, Exchange, Image, Reply, Result, Step, ask
from imgtag_pipeline.providers.alibaba_viapi.reading import envelope_of, logos_of
from imgtag_pipeline.providers.toolkit.codes import said
from imgtag_pipeline.providers.toolkit.image_modes import Handed


class Asking(Protocol):
    """The part of the provider that a batch needs."""

    def locate(self, image: Image) -> Generator[Step, Any, Handed | PermanentError | TransientError]:
        """Where the vendor fetches the image from."""
        ...

    def action_call(self, parameters: Mapping[str, str]) -> Call:
        """The call with these parameters."""
        ...


def converse(provider: Asking, images: Sequence[Image]) -> Exchange:
    """One call for all images that can be fetched; each answer is found by its URL, else by its place."""
    places: list[Handed | PermanentError | TransientError] = []
    for image in images:
        places.append((yield from provider.locate(image)))
    urls = [place.url or "" for place in places if isinstance(place, Handed)]
    answers: list[Result] = []
    if urls:
        reply = yield from _ask_for_all(provider, urls)
        request_id = said(reply.once(envelope_of).request_id)
        found = assigned(reply.once(logos_of), urls)
        answers = [no_result(request_id) if tags is None else Answer(tags, request_id) for tags in found]
    rest = iter(answers)
    return [_told(place, next(rest)) if isinstance(place, Handed) else place for place in places]


def _told(place: Handed, result: Result) -> Result:
    return place.told(result) if isinstance(result, Answer) else result


def _ask_for_all(provider: Asking, urls: Sequence[str]) -> Generator[Step, Any, Reply]:
    """The reply to one call. What is wrong with one image is permanent for the batch, which is then asked in parts."""
    tasks = {f"Tasks.{number}.ImageURL": url for number, url in enumerate(urls, 1)}
    try:
        return (yield from ask(provider.action_call(tasks)))
    except TransientError as error:
        if len(urls) == 1 or not error.code.startswith("InvalidImage."):
            raise
        refusal = PermanentError(str(error), code=error.code, request_id=error.request_id, billing=error.billing)
    raise refusal


def assigned(found: list[tuple[str | None, Any]], urls: Sequence[str]) -> list[Any]:
    """The tags for each URL: by the URL that the answer repeats, else by place when the counts agree, else None."""
    left = dict(enumerate(found))
    given: list[Any] = [None] * len(urls)
    for place, url in enumerate(urls):
        index = next((i for i, (named, _) in left.items() if named == url), None)
        if index is not None:
            given[place] = left.pop(index)[1]
    if len(found) == len(urls):
        for place in range(len(urls)):
            if given[place] is None and place in left:
                given[place] = left.pop(place)[1]
    return given


def no_result(request_id: str | None) -> PermanentError:
    """The outcome of an image that a batch's answer leaves out."""
    return PermanentError(
        "the answer to the batch says nothing about this image", code="NoResult", request_id=request_id, billing="yes"
    )
