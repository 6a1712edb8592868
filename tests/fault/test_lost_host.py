"""A host that is lost with its disk: the next one lists what may have been billed, as the cloud's ledger knows it."""

import shutil
import time

import pytest

from imgtag_pipeline.checkpoint.store import outcomes
from imgtag_pipeline.emulator.faults import parse_all

pytest.importorskip("ossfs")
pytestmark = [pytest.mark.sdk, pytest.mark.emulator(is_synthetic=True, latency=0.05)]

STORE = "oss://bkt/tags"
PUT_EVERY = 0.3


class Hosts:
    """Runs on one table with one store in a bucket, each on a host of its own, and what the ledger says of them."""

    def __init__(self, desk):
        self.desk, self.ledger = desk, desk.emulator.ledger
        self.options = {"endpoint": desk.emulator.url, "key": "emulator", "secret": "emulator"}

    def start(self, name, **pace):
        """A run on the host of that name."""
        storage = [word for pair in self.options.items() for word in ("--storage-option", "=".join(pair))]
        home = str(self.spool(name))
        env = {"IMGTAG_SPOOL": home, "HOME": home, "XDG_CACHE_HOME": home}
        out = self.desk.folder / f"{name}.parquet"
        return self.desk.start(*storage, store=STORE, out=out, env=env, **{"qps": 60, **pace})

    def spool(self, name):
        folder = self.desk.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def lose(self, name, process):
        """The process is killed and all that its host had is gone; what it had sent, the cloud answers to the end."""
        assert process.kill() == -9, process.stderr
        shutil.rmtree(self.spool(name))
        while any(not entry.code for entry in list(self.ledger)):
            time.sleep(0.01)

    def puts(self, suffix):
        """When objects of that kind were put, by their arrival."""
        entries = [entry for entry in list(self.ledger) if entry.action == "PutObject" and entry.is_answered]
        return [entry.arrived for entry in entries if entry.about.endswith(suffix) and entry.status == 200]

    def billed(self):
        """The images that were billed, with the arrival of their first call."""
        found = {}
        for entry in list(self.ledger):
            for image in entry.images if entry.is_billed else ():
                found.setdefault(image, entry.arrived)
        return found

    def known(self):
        """The images whose answers the store has."""
        parts = outcomes(STORE, storage_options=self.options, spool=self.desk.folder / "nobody")
        return {key for _, rows in parts for key in rows["key"].to_pylist()}


@pytest.fixture
def hosts(desk):
    return Hosts(desk)


def wait_for(process, is_so):
    while not is_so():
        assert process.is_running(), process.stderr
        time.sleep(0.01)


@pytest.mark.parametrize("follower", ["another", "lost"], ids=["another host", "the same host with an empty disk"])
@pytest.mark.parametrize("parts", [0, 1], ids=["before the first part", "after a part"])
def test_the_next_host_lists_what_may_have_been_billed(hosts, figure, follower, parts):
    """Each billed image is in the store or in the next report, but for calls after the last put of marks but one."""
    urls = hosts.desk.write(900)
    process = hosts.start("lost")
    wait_for(process, lambda: len(hosts.puts(".parquet")) >= parts)
    puts = len(hosts.puts(".open")) + 5
    wait_for(process, lambda: len(hosts.puts(".open")) >= puts)
    calls = hosts.ledger.billed + 12
    wait_for(process, lambda: hosts.ledger.billed >= calls)
    hosts.lose("lost", process)
    assert "lists them as possibly billed" in process.stderr
    told, billed, known = hosts.puts(".open"), hosts.billed(), hosts.known()
    assert bool(known) == bool(parts)
    again = hosts.start(follower, qps=1000, concurrency=32)
    assert again.wait() == 0, again.stderr
    listed = set(again.report["possibly_billed"])
    unlisted = billed.keys() - known - listed
    # the last put tells what had been marked when the one before had ended, and a call is marked before it is sent
    assert all(billed[image] > told[-2] for image in unlisted)
    twice = {image for image in urls if hosts.ledger.billed_by_image[image] > 1}
    assert twice <= billed.keys() - known
    assert twice - listed <= unlisted
    assert not listed & known
    assert again.report["ok"] == len(urls)
    assert again.report["known"] == len(known)
    span = told[-1] - told[0]
    assert len(told) <= span / PUT_EVERY + 2 + 2 * len(hosts.puts(".parquet"))
    window = max((max(billed.values()) - billed[image] for image in unlisted), default=0.0)
    figure(
        "a host that is lost with its disk, store on oss://, put_every 0.3 s",
        f"{len(billed)} billed, {len(known)} in the store",
        f"{len(listed)} listed, {len(unlisted)} not, at most {window:.2f} s old; {len(told) / span:.1f} puts a second",
    )


@pytest.mark.parametrize("fault", ["error:ServiceUnavailable#2@.open", "error:ServiceUnavailable@.open"])
def test_puts_of_marks_that_fail_change_nothing(hosts, fault):
    """While the store takes no marks, calls go on and the run ends as it would, with a warning and a whole store."""
    urls = hosts.desk.write(120)
    hosts.desk.emulator.faults.set(parse_all([fault]))
    process = hosts.start("here")
    assert process.wait() == 0, process.stderr
    assert process.report["ok"] == process.report["calls"] == len(urls)
    assert hosts.known() == set(urls)
    assert "event=marks_not_put" in process.stderr


def test_calls_do_not_wait_for_puts_of_marks(hosts):
    """A put of marks that hangs holds up no call."""
    hosts.desk.write(120)
    hosts.desk.emulator.faults.set(parse_all(["hang:300#1@.open"]))
    process = hosts.start("here")
    wait_for(process, lambda: hosts.ledger.billed == 120)
    assert [entry.about.endswith(".open") for entry in hosts.ledger if entry.action == "PutObject"].count(True) == 1
    assert process.kill() == -9, process.stderr
