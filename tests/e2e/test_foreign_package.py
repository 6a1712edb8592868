"""A provider of another package: written, packed as a wheel, installed, found by its entry point, and run."""

import json
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest

PROVIDER = '''
"""Acme's tags: one POST an image, a bearer key, tags with a score of 0 to 100."""

import json
import os
from dataclasses import dataclass, replace

from imgtag_pipeline.errors import FatalError, PermanentError, ThrottledError
from imgtag_pipeline.model import Answer, Call, Facts, Quota, Request, Tag, ask
from imgtag_pipeline.urls import image_key

FACTS = Facts(
    title="Tags", docs="https://acme.example/docs", image_as=("url",), confidence="0 to 100", languages=("en",),
    formats=("JPEG",), max_bytes=None, resolution="any", qps="50", price="free",
)


@dataclass(frozen=True)
class Acme:
    """Acme's tagging. endpoint: where to send."""

    endpoint: str = "https://api.acme.example"
    address = "acme"
    facts = FACTS
    quota = Quota("acme", 50.0)
    price = None
    batch_size = 1
    concurrency = 4

    @staticmethod
    def facts_of(address):
        return FACTS

    def identity(self):
        return {"provider": "acme"}

    def key(self, url):
        return image_key(url)

    def exchange(self, images, jobs):
        (image,) = images
        body = json.dumps({"url": image.url}).encode()
        kind = ("content-type", "application/json")
        request = Request("POST", self.endpoint + "/tag", headers=(kind,), body=body)
        reply = yield from ask(Call("tag", request, self.quota))
        tags = [Tag(one["name"], confidence=one["score"] / 100) for one in json.loads(reply.body)["tags"]]
        return [Answer(tuple(tags))]

    def sign(self, request, moment):
        key = os.environ.get("ACME_KEY", "")
        return replace(request, headers=(*request.headers, ("authorization", "Bearer " + key)))

    def check(self, call, reply):
        if reply.status == 401:
            raise FatalError("the key is wrong", code="Unauthorized")
        if reply.status == 429:
            raise ThrottledError("too fast", code="TooMany")
        if reply.status != 200:
            raise PermanentError("refused", code=f"HTTP{reply.status}")
'''
METADATA = "Metadata-Version: 2.1\nName: acme-imgtag\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
ENTRY = "[imgtag_pipeline.providers]\nacme = acme_imgtag.provider:Acme\n"


@pytest.fixture
def installed(tmp_path):
    """A folder with the package in it, put there by pip."""
    files = {
        "acme_imgtag/__init__.py": "",
        "acme_imgtag/provider.py": PROVIDER,
        "acme_imgtag-1.0.dist-info/METADATA": METADATA,
        "acme_imgtag-1.0.dist-info/WHEEL": WHEEL,
        "acme_imgtag-1.0.dist-info/entry_points.txt": ENTRY,
    }
    files["acme_imgtag-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    wheel = tmp_path / "acme_imgtag-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", target, wheel]
    subprocess.run(command, check=True, capture_output=True)
    return target


@pytest.fixture
def acme():
    """The vendor: it knows one key, and tags every picture but `bad.jpg`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            url = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["url"]
            is_known = self.headers["Authorization"] == "Bearer right"
            status = 401 if not is_known else 422 if "bad" in url else 200
            body = json.dumps({"tags": [{"name": "cat", "score": 93}]}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def imgtag(folder, installed, *words, key="right"):
    path = os.pathsep.join([str(installed), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "imgtag_pipeline", *words]
    environment = {**os.environ, "PYTHONPATH": path, "ACME_KEY": key}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_package_of_ones_own_is_found_and_run(installed, acme, tmp_path):
    """Listed with the others; its tags stand in the one schema, its refusals are rows, its wrong key ends the run."""
    listed = json.loads(imgtag(tmp_path, installed, "providers", "--json").stdout)
    assert "acme" in {row["address"] for row in listed}
    pd.DataFrame({"url": ["https://a.example/1.jpg", "https://a.example/bad.jpg"]}).to_parquet(tmp_path / "in.parquet")
    words = ["label", "in.parquet", "--out", "out.parquet", "--provider", "acme", "--endpoint", acme, "--overwrite"]
    ended = imgtag(tmp_path, installed, *words, "--max-failed", "1")
    assert ended.returncode == 0, ended.stderr
    table = pd.read_parquet(tmp_path / "out.parquet")
    assert table["tag"].tolist()[0] == "cat"
    assert table["confidence"].tolist()[0] == pytest.approx(0.93)
    assert table["status"].tolist() == ["ok", "failed"]
    assert table["error_code"].tolist()[1] == "HTTP422"
    wrong = imgtag(tmp_path, installed, *words, key="wrong")
    assert (wrong.returncode, "the key is wrong" in wrong.stderr) == (3, True)
