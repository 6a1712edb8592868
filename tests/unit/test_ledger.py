"""The ledger counts each paid call once, by account, action and month, also those of runs that died."""

import json

import fsspec
import pyarrow as pa
import pytest

from imgtag_pipeline import api
from imgtag_pipeline.checkpoint.files import Files
from imgtag_pipeline.checkpoint.remote import RemoteFolder
from imgtag_pipeline.emulator import Account
from imgtag_pipeline.errors import StoreError
from imgtag_pipeline.model import Price
from imgtag_pipeline.pipeline import records as money
from imgtag_pipeline.pipeline import stores
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.providers.toolkit.credentials import Fetched
from imgtag_pipeline.spend import FileRecord, SpendGuard, ledger
from imgtag_pipeline.testing import FakeClock, running_emulator

PRICE = Price(((2, 2500), (None, 2000)))
KEY, ADDRESS = "viapi:TaggingImage:cn-shanghai:abc123", "viapi/TaggingImage"


def purse_of(folder, price=PRICE, *, key=KEY, address=ADDRESS, clock=None, **words):
    book = FileRecord(folder, ledger.name_of(key, address), key=key, address=address)
    return SpendGuard(price, book=book, clock=clock or FakeClock(), **words)


async def call(spend_guard, *answers):
    for billed in answers:
        await spend_guard.settle(await spend_guard.reserve(), billed)


async def test_calls_are_told_apart_by_how_they_are_billed(tmp_path):
    """Three kinds of call, and one that nobody answered, which may have been paid."""
    spend_guard = purse_of(tmp_path)
    await call(spend_guard, "yes", "no", "unknown", "yes")
    await spend_guard.reserve()
    (row,) = ledger.read(tmp_path)
    assert (row.account, row.action, row.yes, row.no, row.unknown) == ("abc123", ADDRESS, 2, 1, 2)
    assert row.micro_yuan == 2500 + 2500 + 2000 + 2000


async def test_runs_of_a_month_add_up_and_the_next_month_begins_anew(tmp_path):
    """Tiers go on from run to run, and start again with the month."""
    clock = FakeClock()
    for _ in range(2):
        spend_guard = purse_of(tmp_path, clock=clock)
        await call(spend_guard, "yes", "yes")
        await spend_guard.close()
    await clock.advance(40 * 86_400)
    await call(purse_of(tmp_path, clock=clock), "yes")
    first, second = ledger.read(tmp_path)
    assert (first.yes, first.micro_yuan) == (4, 2 * 2500 + 2 * 2000)
    assert (second.yes, second.micro_yuan) == (1, 2500)
    assert first.month < second.month


async def test_accounts_and_actions_have_rows_of_their_own(tmp_path):
    """Each counts for its own tiers."""
    await call(purse_of(tmp_path), "yes")
    await call(purse_of(tmp_path, key="viapi:TaggingImage:cn-shanghai:other"), "yes", "yes")
    await call(purse_of(tmp_path, key="tencent_v1:abc123", address="tencent_v1"), "no")
    rows = ledger.read(tmp_path)
    assert [(row.account, row.action, row.yes) for row in rows] == [
        ("abc123", "tencent_v1", 0),
        ("abc123", ADDRESS, 1),
        ("other", ADDRESS, 2),
    ]
    assert ledger.counted(rows, key=KEY, address=ADDRESS, month=rows[0].month) == 1


async def test_an_unknown_price_makes_the_sum_unknown(tmp_path):
    """Calls are counted all the same; unbilled ones cost nothing at any price."""
    await call(purse_of(tmp_path, price=None), "no")
    assert ledger.read(tmp_path)[0].micro_yuan == 0
    await call(purse_of(tmp_path, price=None), "yes")
    (row,) = ledger.read(tmp_path)
    assert (row.yes, ledger.plain(row)["yuan"]) == (1, None)
    assert json.dumps(ledger.plain(row))


def shared_folder(name):
    return RemoteFolder(fsspec.filesystem("memory"), f"/{name}", Files())


async def test_another_hosts_copy_is_added(tmp_path):
    """Of a store behind a URL each host leaves its counts there for the others, and reads its own from its disk."""
    shared = shared_folder("ledger-copies")
    here, there = tmp_path / "here", tmp_path / "there"
    for folder, answers in ((here, ["yes"]), (there, ["yes", "no"])):
        spend_guard = purse_of(folder)
        await call(spend_guard, *answers)
        await spend_guard.close()
        ledger.leave_copy(shared, spend_guard.book.path)
    assert [(row.yes, row.no) for row in ledger.read(here, ledger.copies(shared))] == [(2, 1)]
    assert [(row.yes, row.no) for row in ledger.read_elsewhere(here, ledger.copies(shared))] == [(1, 1)]


async def test_a_host_that_forgot_its_disk_does_not_take_its_calls_back(tmp_path):
    """A container that begins with an empty folder each time adds to what it left before."""
    shared = shared_folder("ledger-containers")
    for _ in range(3):
        spend_guard = purse_of(tmp_path / "spool")
        await call(spend_guard, "yes", "yes")
        await spend_guard.close()
        ledger.leave_copy(shared, spend_guard.book.path)
        spend_guard.book.path.unlink()
    assert [row.yes for row in ledger.read(tmp_path / "spool", ledger.copies(shared))] == [6]


def test_no_ledger_is_no_rows(tmp_path):
    """A store that nobody has paid for, and a copy that cannot be read."""
    assert ledger.read(tmp_path / "none") == []
    assert list(ledger.copies(shared_folder("nothing/here"))) == []
    with pytest.raises(StoreError, match="remove it"):
        ledger.read(tmp_path, [b"{"])


HERE = f"{KEY}@127.0.0.1:8099"


@pytest.mark.parametrize(
    ("keys", "asked", "found"),
    [
        ([KEY], "viapi:TaggingImage:cn-shanghai:unknown", 1),
        ([KEY, HERE], "viapi:TaggingImage:cn-shanghai:unknown", 1),
        ([KEY, HERE], "viapi:TaggingImage:cn-shanghai:unknown@127.0.0.1:8099", 1),
        ([KEY], "viapi:TaggingImage:cn-huhehaote:unknown", 0),
        ([KEY, KEY + "4"], "viapi:TaggingImage:cn-shanghai:unknown", 0),
        ([KEY, KEY + "4"], KEY, 1),
        ([], "viapi:TaggingImage:cn-shanghai:unknown", 0),
    ],
)
async def test_before_the_keys_are_there_the_only_account_counts(tmp_path, keys, asked, found):
    """A plan fetches no keys from a chain, so it takes the one account that runs have had here; of several, none."""
    for key in keys:
        await call(purse_of(tmp_path, key=key), "yes")
    rows = ledger.read(tmp_path)
    assert ledger.counted(rows, key=asked, address=ADDRESS, month="2026-01") == found


async def test_an_account_elsewhere_is_named_with_its_endpoint(tmp_path):
    """That of an emulator, port and all."""
    await call(purse_of(tmp_path, key=HERE), "yes")
    assert ledger.read(tmp_path)[0].account == "abc123@127.0.0.1:8099"


@pytest.mark.parametrize("store", ["store", "memory://ledger-runs/tags"])
@pytest.mark.emulator(is_synthetic=True)
def test_a_run_leaves_its_calls_in_the_ledger_and_the_plan_reads_them(
    store, tmp_path, monkeypatch, emulator_environment, emulator
):
    """By the verbs that users call, in a store on the disk and behind a URL."""
    monkeypatch.setenv("HOME", str(tmp_path))
    store = store if "://" in store else str(tmp_path / store)
    provider = get("viapi/TaggingImage", endpoint=emulator.url)
    table = pa.table({"url": [f"https://img.example/{number}.jpg" for number in range(7)]})
    words = {"provider": provider, "checkpoint": store, "qps": 1000, "progress": False}
    api.label(table, **words, max_calls=7)
    (row,) = stores.ledger(store)
    assert (row["action"], row["yes"], row["no"], row["unknown"]) == ("viapi/TaggingImage", 7, 0, 0)
    assert row["yuan"] == pytest.approx(7 * 0.0025)
    assert api.plan(table, **words).billed_before == 7
    assert money.read_ledger(store)[0].key == provider.quota.key


TEMPORARY = Account("STS.1", "secret", name="role", security_token="token")


@pytest.mark.parametrize("account", [Account("permanent", "secret"), TEMPORARY], ids=["permanent", "temporary"])
def test_a_plan_agrees_with_the_ledger_when_keys_come_from_a_chain(tmp_path, account):
    """The plan asks no chain, the run before it did; a cap that a dead run shares goes on with renewed keys."""

    def provider():
        keys = Keys(account.key_id, account.secret, account.security_token, None)
        return get("viapi/TaggingImage", endpoint=emulator.url, credentials=Fetched(lambda: keys))

    with running_emulator(is_synthetic=True, accounts=(account,)) as emulator:
        table = pa.table({"url": [f"https://img.example/{number}.jpg" for number in range(7)]})
        words = {"checkpoint": str(tmp_path / "store"), "qps": 1000, "progress": False}
        before = provider()
        assert api.plan(table, provider=before, **words).billed_before == 0
        api.label(table, provider=before, **words, max_calls=7)
        after = provider()
        assert not after.credentials.is_at_hand
        assert api.plan(table, provider=after, **words).billed_before == 7
        assert not after.credentials.is_at_hand
    (row,) = stores.ledger(str(tmp_path / "store"))
    assert row["account"].partition("@")[0] != ledger.UNKNOWN
    assert (row["yes"], row["key"]) == (7, before.quota.key)
