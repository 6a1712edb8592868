"""Both engines of the embedded network give the same digits, alone and in threads."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage

from imgtag_pipeline.errors import ConfigError, PermanentError
from imgtag_pipeline.tagger import describe
from imgtag_pipeline.tagger.objects import blas, engine, identity
from imgtag_pipeline.tagger.objects.blas import one_blas_thread
from imgtag_pipeline.tagger.objects.tags import Objects

FOLDERS = [Path(skimage.__file__).parent / "data", Path(matplotlib.__file__).parent / "mpl-data" / "sample_data"]
PICTURES = sorted(
    path for folder in FOLDERS for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".gif", ".tif")
)


def crop(seed):
    return np.random.default_rng(seed).normal(size=(224, 224, 3)).astype(np.float32)


def test_both_engines_give_the_same_digits():
    """Logits to five digits, and the same tags with the same confidences for every sample picture."""
    pytest.importorskip("onnxruntime")
    for seed in range(2):
        one, other = engine.runner("numpy")(crop(seed)), engine.runner("onnxruntime")(crop(seed))
        for left, right in zip(one, other, strict=True):
            assert np.abs(left - right).max() < 5e-5
    compared = 0
    for path in PICTURES:
        try:
            told = [describe(path.read_bytes(), objects=Objects(engine=name)) for name in ("numpy", "onnxruntime")]
        except PermanentError:
            continue
        assert told[0] == told[1], path.name
        compared += 1
    assert compared >= 20


def test_threads_share_a_network():
    """What one picture comes to does not depend on the others."""
    run = engine.runner("numpy")
    alone = [run(crop(seed))[0] for seed in range(3)]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda seed: run(crop(seed))[0], [0, 1, 2] * 2))
    for place, logits in enumerate(together):
        np.testing.assert_array_equal(logits, alone[place % 3])


def test_blas_has_one_thread_meanwhile_and_its_own_number_afterwards():
    """However many blocks overlap, and also after an error."""
    found = blas._openblas()
    if found is None:
        pytest.skip("NumPy's BLAS here is not OpenBLAS")
    threads, set_threads = found
    assert isinstance(threads, ctypes._CFuncPtr)
    before = threads()
    set_threads(2)
    try:
        with one_blas_thread():
            assert threads() == 1
            with pytest.raises(KeyError), one_blas_thread():
                raise KeyError
            assert threads() == 1
        assert threads() == 2
    finally:
        set_threads(before)


def test_an_engine_that_is_not_installed_is_said(monkeypatch):
    """And "auto" takes the other one."""
    monkeypatch.setattr(identity, "find_spec", lambda name: None)
    assert identity.resolved("auto") == "numpy"
    with pytest.raises(ConfigError, match=r"pip install 'imgtag_pipeline\[onnx\]'"):
        identity.resolved("onnxruntime")
