"""The network's forward pass in NumPy alone, one picture at a time, channels last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtag_pipeline.tagger.objects.blas import one_blas_thread

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class _Pointwise:
    """A 1x1 convolution: a matrix of inputs by outputs, and a bias."""

    weights: Floats
    bias: Floats

    def of(self, x: Floats, *, is_clipped: bool) -> Floats:
        out: Floats = x.reshape(-1, x.shape[-1]) @ self.weights
        out += self.bias
        if is_clipped:
            np.clip(out, 0, 6, out=out)
        return out.reshape(*x.shape[:-1], -1)


@dataclass(frozen=True, slots=True)
class _Depthwise:
    """A convolution of each channel with its own kernel (kernel, kernel, channels), then ReLU6."""

    weights: Floats
    bias: Floats
    stride: int

    def of(self, x: Floats) -> Floats:
        kernel, step = self.weights.shape[0], self.stride
        padded, side = _padded(x, kernel, step)
        out = np.empty((side, side, x.shape[2]), np.float32)
        part = np.empty_like(out)
        reach = (side - 1) * step + 1
        out[:] = self.bias
        for row in range(kernel):
            for column in range(kernel):
                seen = padded[row : row + reach : step, column : column + reach : step]
                np.multiply(seen, self.weights[row, column], out=part)
                out += part
        return np.clip(out, 0, 6, out=out)


@dataclass(frozen=True, slots=True)
class _Block:
    """An inverted residual block."""

    expand: _Pointwise | None
    depthwise: _Depthwise
    project: _Pointwise

    def of(self, x: Floats) -> Floats:
        wide = x if self.expand is None else self.expand.of(x, is_clipped=True)
        out = self.project.of(self.depthwise.of(wide), is_clipped=False)
        if out.shape == x.shape:
            out += x
        return out


def _padded(x: Floats, kernel: int, step: int) -> tuple[Floats, int]:
    """The map with zeros around it as TensorFlow pads ("SAME"), and the side of what comes out."""
    side = x.shape[0]
    out = -(-side // step)
    pad = max((out - 1) * step + kernel - side, 0)
    wide = np.zeros((side + pad, side + pad, x.shape[2]), np.float32)
    wide[pad // 2 : pad // 2 + side, pad // 2 : pad // 2 + side] = x
    return wide, out


class Network:
    """The whole network, its weights widened to 32-bit floats. Safe in threads."""

    def __init__(self, stored: Mapping[str, NDArray[Any]]) -> None:
        self._stem = _matrix(stored, "stem")
        self._blocks = [_block(stored, index) for index in range(_count(stored))]
        self._head = _pointwise(stored, "head")
        self._last = _wide(stored, "fc_w").T.copy(), _wide(stored, "fc_b")

    def run(self, crop: Floats) -> tuple[Floats, Floats]:
        """Logits and features of a square crop (side, side, 3) whose pixels are (value - 127) / 128."""
        with one_blas_thread():
            padded, side = _padded(crop, 3, 2)
            windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (0, 1))[::2, ::2]
            x = self._stem.of(windows.transpose(0, 1, 3, 4, 2).reshape(side, side, 27), is_clipped=True)
            for block in self._blocks:
                x = block.of(x)
            features: Floats = self._head.of(x, is_clipped=True).mean((0, 1))
            weights, bias = self._last
            return features @ weights + bias, features


def _count(stored: Mapping[str, NDArray[Any]]) -> int:
    return 1 + max(int(name[1:-3]) for name in stored if name.startswith("b") and name.endswith("p_b"))


def _wide(stored: Mapping[str, NDArray[Any]], name: str) -> Floats:
    """The weight as 32-bit floats, however it is stored."""
    if f"{name}_q" in stored:
        widened: Floats = stored[f"{name}_q"].astype(np.float32) * stored[f"{name}_s"]
        return widened
    return (stored[f"{name}_h"] if f"{name}_h" in stored else stored[name]).astype(np.float32)


def _pointwise(stored: Mapping[str, NDArray[Any]], name: str) -> _Pointwise:
    return _Pointwise(_wide(stored, f"{name}_w")[:, :, 0, 0].T.copy(), _wide(stored, f"{name}_b"))


def _matrix(stored: Mapping[str, NDArray[Any]], name: str) -> _Pointwise:
    """A full convolution as a matrix over (row, column, channel) of its window."""
    weights = _wide(stored, f"{name}_w")
    return _Pointwise(weights.transpose(2, 3, 1, 0).reshape(-1, len(weights)).copy(), _wide(stored, f"{name}_b"))


def _block(stored: Mapping[str, NDArray[Any]], index: int) -> _Block:
    expand = _pointwise(stored, f"b{index}e") if f"b{index}e_b" in stored else None
    kernels = _wide(stored, f"b{index}d_w")[:, 0].transpose(1, 2, 0).copy()
    depthwise = _Depthwise(kernels, _wide(stored, f"b{index}d_b"), 2 if index in _HALVING else 1)
    return _Block(expand, depthwise, _pointwise(stored, f"b{index}p"))


_HALVING = (1, 3, 5, 11)  # blocks that halve the map's side
