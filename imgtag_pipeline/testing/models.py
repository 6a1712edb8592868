"""A small ONNX model for tests: it says how red, green and blue a picture is on average."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imgtag_pipeline.tagger.objects import onnx_file as onnx

LABELS: Final = ("red", "green", "blue")
SAID: Final[Mapping[str, Any]] = MappingProxyType(
    {"labels": list(LABELS), "mean": 0, "scale": 255, "size": 32, "crop": 1.0}
)
_NUMBERS: Final = {"float": onnx.FLOAT, "half": 10, "uint8": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorModel:
    """What kind of model to make.

    Its three values are 10 times the mean of a channel, plus `bias`; `activation` is the node that ends it. A `batch`
    or `side` that is a text is free. `metadata` is what the file says of itself, under the key `imgtag`.
    """

    layout: Literal["NCHW", "NHWC"] = "NCHW"
    batch: int | str = "N"
    side: int | str = 32
    kind: Literal["float", "half", "uint8"] = "float"
    activation: Literal["Softmax", "Sigmoid"] | None = None
    bias: float = -5.0
    metadata: Mapping[str, Any] | None = field(default_factory=lambda: SAID)
    inputs: int = 1

    def data(self) -> bytes:
        """The ONNX file."""
        nodes, x = [], "image"
        if self.kind != "float":
            nodes.append(onnx.node("Cast", [x], ["wide"], to=onnx.FLOAT))
            x = "wide"
        is_last = self.layout == "NHWC"
        nodes.append(onnx.node("ReduceMean", [x], ["means"], axes=[1, 2] if is_last else [2, 3], keepdims=0))
        factor = np.float32(10 / 255 if self.kind == "uint8" else 10)
        weights: dict[str, NDArray[Any]] = {
            "w": np.eye(3, dtype=np.float32) * factor,
            "b": np.full(3, self.bias, np.float32),
        }
        nodes.append(onnx.node("Gemm", ["means", "w", "b"], ["values"]))
        last = "values"
        if self.activation:
            nodes.append(onnx.node(self.activation, [last], ["shares"]))
            last = "shares"
        if self.kind == "half":
            nodes.append(onnx.node("Cast", [last], ["halves"], to=_NUMBERS["half"]))
            last = "halves"
        sides = [self.side, self.side]
        shape = [self.batch, *sides, 3] if is_last else [self.batch, 3, *sides]
        inputs = [onnx.port("image", shape, _NUMBERS[self.kind])]
        inputs += [onnx.port(f"more{number}", [1]) for number in range(self.inputs - 1)]
        outputs = [onnx.port(last, [self.batch, 3], _NUMBERS["half"] if self.kind == "half" else onnx.FLOAT)]
        told = {"imgtag": json.dumps(dict(self.metadata))} if self.metadata else {}
        return onnx.model(nodes, weights, inputs, outputs, metadata=told)
