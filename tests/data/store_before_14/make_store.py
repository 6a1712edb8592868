"""Made the store beside it, with the package as it was at commit 8317ad6. Kept for the record; not run by the tests.

Runs three providers against the emulator and a web server of this machine, and ends one writer without sealing.
"""

import asyncio
import functools
import http.server
import os
import shutil
import sys
import threading
from pathlib import Path

HERE = Path(__file__).parent
PORT = 18431
SIGNED = "Expires=1800000000&OSSAccessKeyId=LTAI5tExampleKeyId0001&Signature=b%2Fsm7Xk0mOY4m5W1cbJx0Z0Fp1c%3D"

WEB = [
    "https://Img.Example.com/\u56fe.jpg",
    "https://img.example.com/a b.jpg",
    "https://img.example.com/%e5%9b%be/lower.jpg",
    "https://img.example.com:443/port.jpg",
    "https://img.example.com/page.jpg#top",
    "https://img.example.com/x/../dots.jpg",
    "https://img.example.com/empty.jpg?",
    "https://img.example.com/50%off.jpg",
    "https://img.example.com/%7Etilde.jpg?q=%7e",
    "https://b.oss-cn-shanghai.aliyuncs.com/signed.jpg?" + SIGNED,
    "https://b.oss-cn-shanghai.aliyuncs.com/inner.jpg",
]
UNSEALED = ["https://img.example.com/unsealed \u56fe.jpg", "HTTPS://img.example.com/unsealed2.jpg"]
OSS = [
    "oss://pictures/a b.jpg",
    "https://pictures.oss-cn-hangzhou.aliyuncs.com/%e5%9b%be.jpg",
    "https://pictures.oss-cn-hangzhou-internal.aliyuncs.com/inner.jpg?" + SIGNED,
    "https://pictures.oss-cn-hangzhou.aliyuncs.com/small.jpg?x-oss-process=image/resize,w_10",
]
LOCAL = [
    "pictures/red.png",
    f"http://127.0.0.1:{PORT}/pictures/re%64.png",
    f"HTTP://127.0.0.1:{PORT}/pictures/red.png?v=1#x",
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


def main() -> None:
    import pandas as pd
    from imgtag_pipeline.clock import SystemClock
    from PIL import Image

    import imgtag_pipeline as imgtag
    from imgtag_pipeline.checkpoint.store import open_store
    from imgtag_pipeline.model import Job, Outcome, Tag
    from imgtag_pipeline.providers import OssLabels, Viapi
    from imgtag_pipeline.testing import environment, put_object, running_emulator

    os.chdir(HERE)
    store = HERE / "store"
    shutil.rmtree(store, ignore_errors=True)
    Image.new("RGB", (8, 8), "red").save("pictures/red.png")
    os.utime("pictures/red.png", (1_700_000_000, 1_700_000_000))
    with running_emulator(is_synthetic=True) as emulator:
        os.environ.update(environment(emulator))
        for name in ("a b.jpg", "\u56fe.jpg", "inner.jpg", "small.jpg"):
            put_object(emulator, "pictures", name, Path("pictures/red.png").read_bytes())
        viapi = Viapi(action="TaggingImage", endpoint=emulator.url, image_hosts="any")
        common = {"checkpoint": str(store), "progress": False}
        imgtag.label(pd.DataFrame({"url": WEB}), provider=viapi, **common)
        skus = pd.DataFrame({"url": ["https://img.example.com/k1.jpg", "https://img.example.com/k2.jpg"]})
        skus["sku"] = ["http://shop/#1", "http://shop/#2"]
        imgtag.label(skus, col="url", key="sku", provider=viapi, **common)
        labels = OssLabels(endpoint=emulator.url, region="cn-hangzhou")
        imgtag.label(pd.DataFrame({"url": OSS}), provider=labels, **common)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), functools.partial(Quiet, directory=HERE))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        imgtag.label(pd.DataFrame({"url": LOCAL}), provider="local", allow_private=True, **common)

        async def leave_unsealed() -> None:
            clock = SystemClock()
            left = open_store(str(store), identity=viapi.identity(), run_id="unsealed", clock=clock)
            await left.mark_sent([viapi.key(url) for url in UNSEALED])
            await left.save([Outcome(viapi.key(url), url, "ok", (Tag("cat"),)) for url in UNSEALED])
            await left.mark_sent([viapi.key("https://img.example.com/lost \u56fe.jpg")])
            await left.flush()

            ads = Viapi(action="TaggingAdImage", endpoint=emulator.url, image_hosts="any")
            jobs = open_store(str(store), identity=ads.identity(), run_id="jobs", clock=clock)
            await jobs.save_job(ads.key("https://img.example.com/job \u56fe.jpg"), Job("job-1", clock.now()))
            await jobs.flush()

        asyncio.run(leave_unsealed())
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
