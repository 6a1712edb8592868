"""What holds for all tests: how long the long ones are, a table of figures at the end, no look at a cloud's metadata
address, and Ctrl-C that reaches the processes."""

import importlib.util
import os
import signal
import tempfile
from pathlib import Path

import pytest

os.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"

# A shell starts what it runs in the background with SIGINT ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--kills", type=int, default=100, help="kill -9 so often in each heavy kill test [default: 100]")
    parser.addoption(
        "--faults", type=int, default=100, help="break the n-th file operation, n up to this [default: 100]"
    )
    parser.addoption("--flips", type=int, default=5000, help="flip so many bits of a journal [default: 5000]")
    parser.addoption("--trials", type=int, default=0, help="so many trials of each cap in the heavy test [default: 50]")


def pytest_terminal_summary(terminalreporter):
    """One table of all figures, also when the tests ran in several processes."""
    reports = [report for each in terminalreporter.stats.values() for report in each if hasattr(report, "when")]
    rows = [
        tuple(value)
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == "figure"
    ]
    if rows:
        terminalreporter.section("figures")
        spec = importlib.util.spec_from_file_location("imgtag_figures", Path(__file__).with_name("figures.py"))
        figures = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(figures)
        for line in figures.lines(rows):
            terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _host_of_its_own(tmp_path_factory, monkeypatch):
    """What the processes of one host share (quota files) is shared by one test: others break theirs on purpose."""
    folder = tempfile.mkdtemp(prefix="host-", dir=tmp_path_factory.getbasetemp())
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)


@pytest.fixture
def figure(request):
    """`figure(what, how_often, outcome)` adds a line to the table at the end; those with a number are one line."""

    def add(what, how_often, outcome, number=None):
        request.node.user_properties.append(("figure", [what, how_often, outcome, number]))

    return add
