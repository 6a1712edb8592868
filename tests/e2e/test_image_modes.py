"""Mixed references through a cloud on loopback: what goes as URL, what as bytes, and what stays here."""

import io
import json
import logging
import os
import subprocess
import sys

import pandas as pd
import pytest
from PIL import Image

import imgtag_pipeline as imgtag
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.testing import put_object

KEYS = Keys("emulator", "emulator", app_id="1000001")
ADDRESSES = ["viapi/TaggingImage", "viapi/RecognizeLogo", "viapi/TaggingAdImage", "tencent_v1", "tencent_v2"]


def picture(kind="JPEG", size=(300, 200)):
    file = io.BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(file, kind)
    return file.getvalue()


def provider_of(address, cloud, **options):
    more = {"poll_every": 0.01} if address == "viapi/TaggingAdImage" else {}
    return get(address, endpoint=cloud.url, credentials=KEYS, **more, **options)


def label(address, cloud, urls, **words):
    options = words.pop("options", {})
    frame = pd.DataFrame({"url": urls})
    found = imgtag.label(frame, provider=provider_of(address, cloud, **options), qps=1000, progress=False, **words)
    return found.drop_duplicates("url").set_index("url")


@pytest.mark.parametrize("address", ADDRESSES)
def test_files_of_this_machine_leave_it_only_by_the_callers_word(emulator, tmp_path, address):
    """A failed row that names the option; a later run with it asks, also with what the store knows."""
    path = tmp_path / "a.jpg"
    path.write_bytes(picture())
    urls = [str(path), f"simplecache::file://{path}", f"local://{path}"]
    store = str(tmp_path / "store")
    refused = label(address, emulator, urls, checkpoint=store)
    assert list(refused["error_code"]) == ["LocalNotAllowed"] * 3
    assert refused["error"].str.contains("--allow-local").all()
    assert emulator.ledger.billed == 0
    assert set(label(address, emulator, urls, checkpoint=store, allow_local=True)["status"]) <= {"ok", "empty"}
    assert emulator.ledger.billed > 0
    billed = emulator.ledger.billed
    assert set(label(address, emulator, urls, checkpoint=store)["status"]) <= {"ok", "empty"}
    assert emulator.ledger.billed == billed


@pytest.mark.parametrize("address", ADDRESSES)
def test_objects_are_read_here_where_the_vendor_cannot(emulator, address):
    """oss:// through its file system, with the caller's storage options, and another file system."""
    import fsspec

    pytest.importorskip("ossfs")
    put_object(emulator, "bkt", "a.jpg", picture())
    with fsspec.open("memory://modes/a.jpg", "wb") as file:
        file.write(picture())
    access = {"endpoint": emulator.url, "key": "emulator", "secret": "emulator"}
    found = label(address, emulator, ["oss://bkt/a.jpg"], storage_options=access)
    assert found["status"].iloc[0] in ("ok", "empty"), found["error"].iloc[0]
    found = label(address, emulator, ["memory://modes/a.jpg"])
    assert found["status"].iloc[0] in ("ok", "empty"), found["error"].iloc[0]


@pytest.mark.parametrize("address", ADDRESSES)
def test_fit_makes_what_the_vendor_takes(emulator, tmp_path, address):
    """The emulator refuses what a vendor would refuse; with fit nothing is left to refuse, and the row says so."""
    good, odd, large = tmp_path / "a.jpg", tmp_path / "b.gif", tmp_path / "c.bmp"
    good.write_bytes(picture())
    odd.write_bytes(picture("TIFF"))
    large.write_bytes(picture("BMP", (2000, 1900)))
    urls, store = [str(good), str(odd), str(large)], str(tmp_path / "store")
    first = label(address, emulator, urls, allow_local=True, checkpoint=store)
    assert list(first["error_code"].fillna("")) == ["", "UnsupportedFormat", "ImageTooLarge"]
    assert first["error"][str(odd)].count("fit=True (--fit)") == 1
    assert first["error"][str(large)].count("fit=True (--fit)") == 1
    found = label(address, emulator, urls, allow_local=True, fit=True, checkpoint=store)
    assert set(found["status"]) <= {"ok", "empty"}
    for url in urls:
        if found["status"][url] == "ok":
            extra = json.loads(found["extra"].fillna("{}")[url])
            assert ("fit" in extra) is (url != str(good))


@pytest.mark.parametrize(
    "action", ["RecognizeImageColor", "RecognizeImageStyle", "DetectImageElements", "RecognizeFood"]
)
def test_fit_keeps_to_every_limit_of_an_action(emulator, tmp_path, action):
    """Sides, formats and channels, as the emulator verifies them."""
    pictures = {
        "clear.png": ("PNG", (300, 200), "RGBA"),
        "grey.jpg": ("JPEG", (300, 200), "L"),
        "ink.jpg": ("JPEG", (300, 200), "CMYK"),
        "wide.png": ("PNG", (5000, 1200), "P"),
        "many.jpg": ("JPEG", (4100, 3100), "RGB"),
        "pages.tif": ("TIFF", (1300, 400), "RGB"),
    }
    for name, (kind, size, mode) in pictures.items():
        Image.linear_gradient("L").resize(size).convert(mode).save(tmp_path / name, kind)
    urls = [str(tmp_path / name) for name in pictures]
    found = label(f"viapi/{action}", emulator, urls, allow_local=True, fit=True)
    assert set(found["status"]) <= {"ok", "empty"}, found[["error_code", "error"]].to_string()
    assert emulator.ledger.billed == len(urls)


def test_objects_without_an_endpoint_say_what_is_missing(emulator, monkeypatch):
    """One sentence, and a later run that has it asks."""
    pytest.importorskip("ossfs")
    monkeypatch.delenv("OSS_ENDPOINT", raising=False)
    put_object(emulator, "bkt", "a.jpg", picture())
    found = label("tencent_v1", emulator, ["oss://bkt/a.jpg"])
    assert found["error_code"].iloc[0] == "NotReadable"
    assert "storage_options" in found["error"].iloc[0]


def test_a_label_of_impossible_images_says_so_before_it_asks(emulator, caplog):
    """More than half of the first thousand: a warning with the reasons, told before the first call."""
    urls = [f"https://h.example/{number}.{'svg' if number % 5 else 'jpg'}" for number in range(1500)]
    calls = []

    class Watch(logging.Handler):
        def emit(self, record):
            if "mostly_impossible" in record.getMessage():
                calls.append((emulator.ledger.billed, record.getMessage()))

    watch = Watch()
    logging.getLogger("imgtag_pipeline").addHandler(watch)
    try:
        label("tencent_v1", emulator, urls, max_calls=0, errors="rows")
    except imgtag.CapReached:
        pass
    finally:
        logging.getLogger("imgtag_pipeline").removeHandler(watch)
    ((billed, message),) = calls
    assert billed == 0
    assert "impossible=800 of=1000" in message
    assert "800 UnsupportedFormat" in message
    assert "svg" in message


def test_the_command_line_plans_and_labels_mixed_references(emulator, tmp_path):
    """A plan with its reasons on standard output; a label whose table names the option."""
    path = tmp_path / "a.jpg"
    path.write_bytes(picture())
    table = tmp_path / "in.csv"
    table.write_text(f"url\n{path}\n{tmp_path}/missing.jpg\nhttps://h.example/a.svg\n", encoding="utf-8")
    environment = os.environ | {
        "TENCENT_APP_ID": "1000001",
        "TENCENT_SECRET_ID": "emulator",
        "TENCENT_SECRET_KEY": "emulator",
    }

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "imgtag_pipeline", *words, "--provider", "tencent_v1", "--endpoint", emulator.url],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    plan = run("plan", str(table))
    assert (plan.returncode, plan.stderr) == (0, "")
    assert "2 LocalNotAllowed" in plan.stdout
    assert "--allow-local" in plan.stdout
    assert "1 UnsupportedFormat, for example https://h.example/a.svg" in plan.stdout
    allowed = json.loads(run("plan", str(table), "--allow-local", "--json").stdout)
    assert (allowed["impossible"], allowed["payable"]) == (2, 1)
    assert {reason["code"] for reason in allowed["reasons"]} == {"NotFound", "UnsupportedFormat"}
    out = tmp_path / "out.csv"
    ended = run("label", str(table), "--out", str(out), "--max-failed", "2", "--allow-local", "--quiet")
    assert ended.returncode == 0, ended.stderr
    assert list(pd.read_csv(out).drop_duplicates("url")["status"]) == ["ok", "failed", "failed"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "words", [{"options": {"image_mode": "bytes"}}, {"allow_local": True}, {"allow_local": True, "fit": True}]
)
def test_the_plan_is_what_happens(emulator, tmp_path, address, words):
    """What a plan calls impossible fails without a call, and what it calls payable is asked."""
    contents = {
        "good.jpg": picture(),
        "odd.jpg": picture("GIF"),
        "large.bmp": picture("BMP", (2100, 2000)),
        "modern.png": b"\xff\x0a" + bytes(60),  # JPEG XL
        "icon.png": b"\0\0\1\0\1\0\x10\x10" + bytes(60),
        "page.jpg": b"<html>not here</html>",
        "empty.jpg": b"",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    urls = [
        *(str(tmp_path / name) for name in contents),
        str(tmp_path / "missing.jpg"),
        "foo://a/b.jpg",
        "ftp://a/b.jpg",
    ]
    options = words.get("options", {})
    rest = {name: value for name, value in words.items() if name != "options"}
    frame = pd.DataFrame({"url": urls})
    plan = imgtag.plan(frame, provider=provider_of(address, emulator, **options), **rest)
    found = label(address, emulator, urls, **words)
    failed = found[found["status"] == "failed"]
    assert plan.impossible == len(failed)
    assert {reason.code: reason.images for reason in plan.reasons} == dict(failed["error_code"].value_counts())
    assert plan.calls == emulator.ledger.billed
