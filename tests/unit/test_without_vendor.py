"""A provider without a vendor has seven members; the pipeline gives it what it lacks."""

import inspect
import pickle
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import pytest

import imgtag_pipeline as imgtag
from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.model import Answer, Call, Compute, Facts, Quota, Request, Tag, read_all
from imgtag_pipeline.providers import registry
from imgtag_pipeline.providers.contract import Computing, Embedded, Prechecking, Provider, ReadingImages
from imgtag_pipeline.providers.local import FACTS
from imgtag_pipeline.providers.without_vendor import completed

RED = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


@dataclass(frozen=True)
class Sizes:
    """Says how many bytes an image has."""

    address: str = "sizes"
    facts: Facts = FACTS
    batch_size: int = 4
    concurrency: int = 2
    threads: int | None = 1

    def identity(self):
        return {"provider": "sizes"}

    def key(self, url):
        return url

    def reads(self, url):
        return True

    def check_head(self, head, size):
        return None

    def seconds_an_image(self):
        return 0.5

    def described(self):
        return [("model", "len")]

    def exchange(self, images, jobs):
        found = yield from read_all(images, max_bytes=1000)
        names = yield Compute(lambda: [str(len(data)) if isinstance(data, bytes) else data for data in found])
        return [Answer((Tag(name),)) if isinstance(name, str) else name for name in names]


class Calling(Sizes):
    """Makes a call all the same."""

    def exchange(self, images, jobs):
        yield Call("ask", Request("GET", "https://vendor.example/"), Quota("q", None))


def test_it_is_labelled_without_sign_check_quota_or_price():
    """As any provider; a bad image of a batch is its own row."""
    table = pd.DataFrame({"url": [RED, "data:,", "data:,abc"]}).imgtag.label(provider=Sizes(), allow_local=True)
    assert list(table["status"]) == ["ok", "failed", "ok"]
    assert list(table["tag"].dropna()) == ["69", "3"]
    assert table.attrs["imgtag"]["calls"] == 0
    assert table.attrs["imgtag"]["yuan"] == 0


def test_what_it_offers_beside_is_still_there():
    """The completed one has the original's other sides, and only these; it can be pickled."""
    whole = completed(Sizes())
    assert isinstance(Sizes(), Embedded)
    assert not isinstance(Sizes(), Provider)
    assert isinstance(whole, Provider)
    assert isinstance(whole, ReadingImages)
    assert isinstance(whole, Computing)
    assert not isinstance(whole, Prechecking)
    assert pickle.loads(pickle.dumps(whole)) == whole
    for name in ("address", "exchange", "reads", "threads"):
        assert inspect.getattr_static(whole, name, None) is not None, "Python 3.12 looks for members on the class"


def test_one_that_makes_calls_needs_the_rest():
    """Said as the caller's mistake, before anything is sent."""
    with pytest.raises(ConfigError, match="makes a call, so it needs sign, check, quota and price"):
        imgtag.label(pd.DataFrame({"url": [RED]}), provider=Calling())


def test_the_plan_says_that_nothing_is_called():
    """So many images computed here, and about how long that takes."""
    plan = imgtag.plan(pd.DataFrame({"url": [f"data:,{number}" for number in range(40)]}), provider=Sizes())
    assert (plan.calls, plan.payable, plan.seconds, plan.threads, plan.yuan) == (0, 40, 20.0, 1, 0.0)
    assert "no calls, 40 images computed here" in str(plan)
    assert "about 20 seconds on 1 core" in str(plan)
    assert repr(plan).startswith("<Plan sizes: 40 images, 40 to compute here, no calls, ")


def build(
    *,
    model: str,
    size: int | tuple[int, int] | None = None,
    words: Sequence[str] = (),
    shares: list[float] | None = None,
):
    return Sizes(address=f"{model} {size} {words} {shares}")


@pytest.fixture
def _foreign(monkeypatch):
    monkeypatch.setattr(registry, "_factory", lambda address: build)


@pytest.mark.usefixtures("_foreign")
def test_lists_are_given_as_texts_with_commas():
    """Where the option is a list; a single number stays one."""
    told = registry.get("x", model="m", size="448,300", words="a, b", shares="0.5").address
    assert told == "m (448, 300) ['a', 'b'] [0.5]"
    assert registry.get("x", model="m", size="224").address == "m 224 () None"
    with pytest.raises(ConfigError, match="size of 'x' is '1,2,3'; allowed: values with commas between them"):
        registry.get("x", model="m", size="1,2,3")


@pytest.mark.usefixtures("_foreign")
def test_a_required_option_that_is_missing_is_said():
    """In one sentence, by its name."""
    with pytest.raises(ConfigError, match=r"^'x' needs model=$"):
        registry.get("x")


def test_required_options_are_listed():
    """With the others, for people and as data."""
    (found,) = [one for one in registry.describe() if one.address == "viapi/EvaluateCertificateQuality"]
    assert found.required == ("certificate_type",)
    with pytest.raises(ConfigError, match="needs certificate_type=; allowed: IDCard, BusinessLicense"):
        registry.get("viapi/EvaluateCertificateQuality")
