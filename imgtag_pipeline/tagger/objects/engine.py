"""Runs the package's network: on onnxruntime where it is installed, else in NumPy. Both give the same digits."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.tagger.crops import Preprocessing
from imgtag_pipeline.tagger.objects.identity import SHA256, resolved
from imgtag_pipeline.tagger.objects.network import Network
from imgtag_pipeline.tagger.objects.onnx_file import read_onnx
from imgtag_pipeline.tagger.oklab import Floats

PATH: Final = Path(__file__).with_name("objects.onnx")
SEEN: Final = Preprocessing(224, 224, mean=(127.0,) * 3, scale=(128.0,) * 3)
CLASSES: Final = 1000
Run = Callable[[Floats], tuple[Floats, Floats]]
_lock = threading.Lock()
_engines: dict[str, Run] = {}


def runner(engine: str = "auto") -> Run:
    """A function from the crop, float32 (224, 224, 3), to 1,000 logits and 1,280 features; loaded once, then shared."""
    name = resolved(engine)
    with _lock:
        if name not in _engines:
            _engines[name] = _onnxruntime() if name == "onnxruntime" else Network(read_onnx(_data()).weights).run
        return _engines[name]


def seconds_of_network(engine: str = "auto") -> float:
    """How long the network takes for one crop here, the faster of two tries."""
    run, crop = runner(engine), np.zeros((SEEN.height, SEEN.width, 3), np.float32)
    tries = []
    for _ in range(3):
        began = time.perf_counter()
        run(crop)
        tries.append(time.perf_counter() - began)
    return min(tries[1:])


def _data() -> bytes:
    """The data file; raises `ConfigError` where it is not what was shipped."""
    data = PATH.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ConfigError(f"{PATH.name} is damaged (its SHA-256 is not {SHA256[:12]}...); install the package again")
    return data


def _onnxruntime() -> Run:
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the run's own threads share the cores
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(_data(), options, providers=["CPUExecutionProvider"])

    def run(crop: Floats) -> tuple[Floats, Floats]:
        batch = np.ascontiguousarray(crop.transpose(2, 0, 1))[None]
        logits, features = session.run(["logits", "features"], {"image": batch})
        return logits[0], features[0]

    return run
