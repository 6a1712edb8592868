"""What the pipeline counts on in a provider, as a suite that any package can run over its own.

class TestAcme(ProviderContract):
    @pytest.fixture
    def provider(self):
        return get("acme/Detect", credentials=CANARY)
"""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from imgtag_pipeline.errors import CallError, ConfigError, PermanentError
from imgtag_pipeline.model import Answer, Call, Compute, Image, Moment, ReadImage, ReadImages, Reply
from imgtag_pipeline.providers.contract import Prechecking, Provider
from imgtag_pipeline.providers.toolkit.credentials import Keys

CANARY: Final = Keys("canary-id", "canary-secret", "canary-token", app_id="1000001")
URL: Final = "https://bucket.oss-cn-shanghai.aliyuncs.com/a.jpg"
STATUSES: Final = (200, 301, 400, 401, 403, 404, 429, 500, 503)
GARBAGE: Final = (b"", b"{}", b"<html>no</html>", b"\x00\xff", b'{"code":', b"[" * 10_000)
ODD: Final = (
    "",
    "a.jpg",
    "ftp://h/a.jpg",
    "https://h/a.pdf",
    "https://[bad/",
    "oss://b/a.jpg",
    "http://10.0.0.1/a.jpg",
)
MAX_STEPS: Final = 50
NOW: Final = datetime(2024, 1, 1, tzinfo=UTC)


def first_call(provider: Provider, url: str = URL) -> Call | None:
    """The first call about an image, None for a provider that makes none."""
    exchange = provider.exchange([Image("key", url)], {})
    try:
        step = next(exchange)
        while not isinstance(step, Call):
            if isinstance(step, Compute):
                return None
            if isinstance(step, ReadImages):
                step = exchange.send((b"",) * len(step.images))
                continue
            step = exchange.send(b"" if isinstance(step, ReadImage) else None)
    except StopIteration:
        return None
    return step


class ProviderContract:
    """Derive a class of tests from this one and give it a fixture `provider`, built with `CANARY` as its keys."""

    url = URL

    def test_it_says_what_it_is(self, provider: Provider) -> None:
        """Address, facts, identity and quota are there without a call."""
        assert isinstance(provider, Provider)
        facts = provider.facts
        assert provider.address
        assert facts.title
        assert facts.docs
        assert facts.confidence
        assert facts.price
        assert facts.qps
        assert set(facts.image_as) <= {"url", "bytes", "object"}
        identity = provider.identity()
        assert json.loads(json.dumps(identity)) == identity
        assert provider.address in json.dumps(identity)
        assert provider.quota.key
        assert provider.quota.qps is None or provider.quota.qps > 0
        assert provider.batch_size >= 1
        assert provider.concurrency >= 1

    def test_it_shows_no_secret(self, provider: Provider) -> None:
        """Nothing of the keys is in its repr, its identity, its quota or its pickle; it may refuse to be pickled."""
        shown = f"{provider!r}{provider.identity()}{provider.quota}{provider.facts}"
        try:
            shown += repr(pickle.dumps(provider))
        except ConfigError as error:
            shown += str(error)
        assert "canary" not in shown

    def test_its_prices_are_tiers_of_whole_numbers(self, provider: Provider) -> None:
        """In micro-yuan, in order, the last without an end; None where the price is not known."""
        if provider.price is None:
            return
        bounds = [until for until, _ in provider.price.tiers]
        ends = [until for until in bounds if until is not None]
        assert bounds[-1] is None
        assert bounds[:-1] == sorted(ends)
        assert all(isinstance(each, int) and each >= 0 for _, each in provider.price.tiers)

    def test_a_key_has_no_signature(self, provider: Provider) -> None:
        """The same object signed anew is the same image."""
        signed = f"{self.url}?OSSAccessKeyId=a&Expires=1800000000&Signature={'b' * 27}%3D"
        assert provider.key(signed) == provider.key(self.url)

    def test_it_signs_anew_each_time(self, provider: Provider) -> None:
        """Another nonce and time give another signature; neither the call nor its signature shows the secret."""
        call = first_call(provider, self.url)
        if call is None or not call.is_signed:
            return
        unsigned = f"{call.request.url}{call.request.query}{call.request.headers}{call.request.body!r}"
        assert "canary" not in unsigned
        one = provider.sign(call.request, Moment(NOW, "nonce-1"))
        assert one == provider.sign(call.request, Moment(NOW, "nonce-1"))
        later = provider.sign(call.request, Moment(NOW + timedelta(seconds=1), "nonce-2"))
        assert (one.query, one.headers, one.body) != (later.query, later.headers, later.body)
        assert "canary-secret" not in f"{one.url}{one.query}{one.headers}{one.body!r}"
        assert "canary" not in repr(one)

    def test_garbage_is_an_error_of_ours(self, provider: Provider) -> None:
        """Whatever stands between us and the vendor, under any status."""
        call = first_call(provider, self.url)
        if call is None:
            return
        for reply in (Reply(status, {}, body) for status in STATUSES for body in GARBAGE):
            with pytest.raises(CallError) as caught:
                provider.check(call, reply)
            assert caught.value.code
            assert caught.value.billing in ("no", "unknown", "yes")
            assert "canary" not in str(caught.value)

    def test_an_error_ends_the_exchange(self, provider: Provider) -> None:
        """As the outcome of its images, or as the error itself; never as something else."""
        exchange = provider.exchange([Image("key", self.url)], {})
        refusal = PermanentError("no", code="No")
        try:
            next(exchange)
            for _ in range(MAX_STEPS):
                exchange.throw(refusal)
        except StopIteration as done:
            (result,) = done.value
            is_ended = not isinstance(result, Answer)
        except PermanentError as error:
            is_ended = error is refusal
        else:
            is_ended = False
        assert is_ended

    def test_a_precheck_agrees_with_the_exchange(self, provider: Provider) -> None:
        """What it refuses makes no call, costs nothing, and comes to the same code."""
        if not isinstance(provider, Prechecking):
            return
        for url in (self.url, *ODD):
            error = provider.precheck(url)
            if error is None:
                continue
            with pytest.raises(StopIteration) as done:
                next(provider.exchange([Image("key", url)], {}))
            (result,) = done.value.value
            assert isinstance(result, PermanentError)
            assert (result.code, error.billing) == (error.code, "no")

    def test_it_reads_the_moment_that_it_is_handed(self, provider: Provider) -> None:
        """Time and nonce are arguments: the same moment gives the same request, in any time zone."""
        call = first_call(provider, self.url)
        if call is None or not call.is_signed:
            return
        moment = Moment(NOW, "nonce")
        elsewhere = replace(moment, now=NOW.astimezone())
        assert provider.sign(call.request, moment) == provider.sign(call.request, elsewhere)
