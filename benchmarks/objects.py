"""What telling objects costs: images a second and CPU an image, beside a bare loop of the same engine.

    python benchmarks/objects.py [--images 320] [--rounds 3] [--json]

Photographs (those of scikit-image, as JPEG of 640x480) are labelled by `local` and by the provider `onnx` with the
package's network, on one core and on two, in processes of their own. The bare loop reads a file, decodes it with Pillow
to the size that is needed, and runs the same engine: in batches of 8 for onnxruntime, one by one for NumPy. For `local`
it tells colours and facts as well. `ratio` is CPU seconds an image over the bare loop's, of the round with the least.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy
import skimage
from PIL import Image

NAMES = ("chelsea.png", "coffee.png", "astronaut.png", "rocket.jpg")
BATCH = 8


def write_images(folder: Path, count: int) -> list[str]:
    """So many different JPEGs of 640x480."""
    whole = [Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB") for name in NAMES]
    paths = []
    for number in range(count):
        picture = whole[number % len(whole)].resize((640, 480)).rotate(number // len(whole) % 5)
        path = folder / f"{number:04}.jpg"
        picture.save(path, quality=88)
        paths.append(str(path))
    return paths


def bare(way: str, engine: str, paths: list[str]) -> None:
    """The loop that one would write by hand; Pillow's and the engine's work and nothing else."""
    from imgtag_pipeline.tagger.colors import color_tags
    from imgtag_pipeline.tagger.decode import open_picture
    from imgtag_pipeline.tagger.facts import fact_tags
    from imgtag_pipeline.tagger.objects.engine import PATH, SEEN, runner

    if engine == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(PATH), options, providers=["CPUExecutionProvider"])
    run = runner("numpy") if engine == "numpy" else None
    for start in range(0, len(paths), BATCH):
        crops = []
        for path in paths[start : start + BATCH]:
            data = Path(path).read_bytes()
            if way == "local":
                picture = open_picture(data, wants_upright=True)
                color_tags(picture.rgb, picture.alpha, count=3)
                fact_tags(picture)
                upright = picture.upright
            else:
                upright = Image.open(io.BytesIO(data))
                upright.draft("RGB", (SEEN.least, SEEN.least))
                upright = upright.convert("RGB")
            crops.append(SEEN.numbers(upright))
        if run is not None:
            for crop in crops:
                run(crop)
        else:
            batch = numpy.ascontiguousarray(numpy.stack(crops).transpose(0, 3, 1, 2))
            session.run(None, {"image": batch})


def labelled(way: str, engine: str, paths: list[str], cores: int) -> None:
    """The same through `imgtag.label`."""
    import pandas as pd

    import imgtag_pipeline as imgtag
    from imgtag_pipeline.providers import Local, Onnx
    from imgtag_pipeline.tagger.objects.engine import PATH

    provider = {
        "local": lambda: Local(engine=engine, threads=cores),
        "facts": lambda: Local(objects=False, threads=cores),
        "onnx": lambda: Onnx(model=str(PATH), batch=BATCH, threads=cores),
    }[way]()
    table = imgtag.label(pd.DataFrame({"url": paths}), provider=provider, progress=False)
    assert table.attrs["imgtag"]["ok"] == len(paths)


def child(words: list[str]) -> None:
    """One measurement in a process of its own: warmed up with one batch, then timed."""
    kind, way, engine, cores, folder = words
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(cores)])
    paths = sorted(str(path) for path in Path(folder).glob("*.jpg"))

    def work(some: list[str]) -> None:
        if kind == "bare":
            bare(way, engine, some)
        else:
            labelled(way, engine, some, int(cores))

    work(paths[:BATCH])
    wall, cpu = time.perf_counter(), time.process_time()
    work(paths)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"per_second": len(paths) / wall, "cpu_ms": 1000 * cpu / len(paths)}))


def measured(folder: str, rounds: int, *words: str) -> dict[str, float]:
    """The round with the least CPU."""
    runs = []
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, __file__, "--child", *words, folder], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    return min(runs, key=lambda run: run["cpu_ms"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=5)
    options = parser.parse_args()
    if options.child:
        child(options.child)
        return
    has_onnx = importlib.util.find_spec("onnxruntime") is not None
    ways = [("facts", "none"), ("local", "numpy")] + ([("local", "onnxruntime"), ("onnx", "onnxruntime")] * has_onnx)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), options.images)
        for way, engine in ways:
            one, two = (measured(folder, options.rounds, "label", way, engine, cores) for cores in ("1", "2"))
            row = {"way": way, "engine": engine, "one_core": one["per_second"], "two_cores": two["per_second"]}
            row["cpu_ms"] = one["cpu_ms"]
            if way != "facts":
                loop = measured(folder, options.rounds, "bare", way, engine, "1")
                row |= {"bare_cpu_ms": loop["cpu_ms"], "bare_per_second": loop["per_second"]}
                row["ratio"] = one["cpu_ms"] / loop["cpu_ms"]
            rows.append(row)
    versions = {"python": platform.python_version(), "numpy": numpy.__version__, "machine": platform.machine()}
    if options.json:
        print(json.dumps({"versions": versions, "rows": rows}, indent=2))
        return
    print(f"{options.images} JPEGs of 640x480; {versions}, {os.cpu_count()} cores")
    print(f"{'':8} {'engine':12} {'1 core/s':>9} {'2 cores/s':>10} {'CPU ms':>8} {'bare ms':>8} {'ratio':>6}")
    for row in rows:
        tail = f"{row['bare_cpu_ms']:8.1f} {row['ratio']:6.3f}" if "ratio" in row else ""
        rates = f"{row['one_core']:9.1f} {row['two_cores']:10.1f}"
        print(f"{row['way']:8} {row['engine']:12} {rates} {row['cpu_ms']:8.1f} {tail}")


if __name__ == "__main__":
    main()
