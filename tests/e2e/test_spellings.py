"""Images that a table names in several ways: each is asked about once, by the reference that works."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from PIL import Image

import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Keys, Viapi

KEYS = Keys("emulator", "emulator")
STALE, FRESH = 1_600_000_000, 1_900_000_000


def signed(url, expires):
    return f"{url}?Expires={expires}&OSSAccessKeyId=LTAI5tExampleKeyId0001&Signature={'s' * 27}%3D"


@pytest.fixture
def site():
    """A web server that refuses expired signatures, as an object store does; it remembers what it was asked for."""
    out = BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, "PNG")

    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            expires = parse_qs(urlsplit(self.path).query).get("Expires")
            is_fresh = expires is None or int(expires[0]) >= FRESH
            self.send_response(200 if is_fresh else 403)
            body = out.getvalue() if is_fresh else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url, server.asked = f"http://127.0.0.1:{server.server_address[1]}", asked
    yield server
    server.shutdown()
    server.server_close()


def labelled(urls, **words):
    words = {"allow_private": True, "progress": False, "shape": "nested", **words}
    return imgtag.label(pd.DataFrame({"url": urls}), **words)


def test_where_a_signature_has_expired_the_fresh_one_is_tried(site):
    """An old export first, today's after it: one image, and its tags on both rows."""
    urls = [signed(f"{site.url}/a.png", expires) for expires in (STALE, STALE + 1, FRESH)]
    table = labelled(urls)
    assert list(table["status"]) == ["ok"] * 3
    report = table.attrs["imgtag"]
    assert (report["images"], report["ok"], report["failed"]) == (1, 1, {})
    assert len(site.asked) == 3


def test_the_fresh_one_may_come_much_later(site, tmp_path):
    """In a later window of the same run, where the rows between are others."""
    urls = [signed(f"{site.url}/a.png", STALE), *(f"{site.url}/{n}.png" for n in range(1500))]
    table = labelled([*urls, signed(f"{site.url}/a.png", FRESH)], checkpoint=str(tmp_path))
    assert table["status"].iloc[-1] == "ok"
    report = table.attrs["imgtag"]
    assert (report["images"], report["ok"], report["failed"]) == (1501, 1501, {})


def test_the_fresh_one_may_come_in_a_later_run(site, tmp_path):
    """A refused signature says nothing about the image: signed anew it is asked about again, and then known."""
    first = labelled([signed(f"{site.url}/a.png", STALE)], checkpoint=str(tmp_path))
    assert list(first["error_code"]) == ["HTTP403"]
    second = labelled([signed(f"{site.url}/a.png", FRESH)], checkpoint=str(tmp_path))
    assert list(second["status"]) == ["ok"]
    third = labelled([signed(f"{site.url}/a.png", STALE + 5)], checkpoint=str(tmp_path))
    assert third.attrs["imgtag"]["known"] == 1
    assert len(site.asked) == 2


def test_two_expired_ones_are_one_failed_image(site):
    """Tried in turn, counted once."""
    table = labelled([signed(f"{site.url}/a.png", STALE), signed(f"{site.url}/a.png", STALE + 1)])
    report = table.attrs["imgtag"]
    assert (report["images"], report["failed"], list(table["error_code"])) == (1, {"HTTP403": 1}, ["HTTP403"] * 2)


@pytest.mark.emulator(is_synthetic=True)
def test_spellings_of_one_image_cost_one_call(emulator):
    """At a vendor that bills each call."""
    base = "https://img.example.com"
    oss = "pictures.oss-cn-shanghai"
    urls = [
        *(f"{base}/图.jpg", f"{base}/%e5%9b%be.jpg", "HTTPS://IMG.example.com:443/x/../%E5%9B%BE.jpg?#top"),
        *(f"https://{oss}.aliyuncs.com/a b.jpg", f"http://{oss}-internal.aliyuncs.com/a%20b.jpg#x"),
        *(f"{base}/?e=5&token=IMAGE1", f"{base}/?e=5&token=IMAGE2"),
    ]
    provider = Viapi(action="TaggingImage", endpoint=emulator.url, image_hosts="any", credentials=KEYS)
    table = labelled(urls, provider=provider)
    report = table.attrs["imgtag"]
    assert (report["images"], report["calls"], emulator.ledger.calls) == (4, 4, 4)
    assert list(table["url"]) == urls  # the caller's own spelling


def test_one_key_with_two_urls_is_told(site):
    """Asked about once, by the first; the report counts the other."""
    frame = pd.DataFrame({"sku": ["x", "x ", "x", "x"], "url": [f"{site.url}/{n}.png" for n in "abca"]})
    table = imgtag.label(frame, col="url", key="sku", allow_private=True, shape="nested", progress=False)
    report = table.attrs["imgtag"]
    assert (report["images"], report["other_urls"], sorted(site.asked)) == (2, 1, ["/a.png", "/b.png"])


def test_a_path_is_another_image_in_another_folder(tmp_path, monkeypatch):
    """Two folders with one store and a file of the same name in each; `~` is expanded; a new file is looked at."""
    for name, color in (("one", "red"), ("two", "blue")):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8), color).save(tmp_path / name / "a.png")
        monkeypatch.chdir(tmp_path / name)
        table = labelled(["a.png", f"{tmp_path}/{name}/./a.png"], checkpoint=str(tmp_path / "store"))
        assert table.attrs["imgtag"]["images"] == 1
        assert color in {tag["tag"] for tag in table["tags"][0]}
    monkeypatch.setenv("HOME", str(tmp_path))
    again = labelled(["~/two/a.png"], checkpoint=str(tmp_path / "store"))
    assert again.attrs["imgtag"]["known"] == 1
    Image.new("RGB", (8, 8), "green").save(tmp_path / "two" / "a.png")
    os.utime(tmp_path / "two" / "a.png", (1, 1))
    changed = labelled(["~/two/a.png"], checkpoint=str(tmp_path / "store"))
    assert changed.attrs["imgtag"]["known"] == 0
    assert "green" in {tag["tag"] for tag in changed["tags"][0]}
