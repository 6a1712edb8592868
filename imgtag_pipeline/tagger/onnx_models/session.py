"""One ONNX model as a function from pictures to values; batch, layout and number type are the model's own affair."""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from imgtag_pipeline.errors import ConfigError

Layout = Literal["NCHW", "NHWC"]
_TYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
}
_LARGEST_SIDE: Final = 4096
_LARGEST_BATCH: Final = 1024


class Session:
    """A loaded model. `name` is for messages; everything that is wrong with the model is a `ConfigError`.

    `height` and `width` are None where the model leaves them free; `batch` is None where it is free.
    Safe in threads: each call uses the thread that it comes from.
    """

    def __init__(self, source: bytes | str, name: str) -> None:
        if find_spec("onnxruntime") is None:
            raise ConfigError("the provider 'onnx' needs onnxruntime: pip install 'imgtag_pipeline[onnx]'")
        import onnxruntime

        options: Any = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # the run's own threads share the cores
        options.log_severity_level = 4
        self.name = name
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has a class for each of its codes
            raise ConfigError(
                f"{name} cannot be loaded by onnxruntime {onnxruntime.__version__} as an ONNX model ({_short(error)})"
            ) from None
        self.metadata: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._inspect(self._session.get_inputs())

    def _inspect(self, inputs: Sequence[Any]) -> None:
        if len(inputs) != 1:
            names = ", ".join(each.name for each in inputs)
            raise ConfigError(f"{self.name} has {len(inputs)} inputs ({names}); a model of images has one")
        (found,) = inputs
        if found.type not in _TYPES:
            raise ConfigError(f"{self.name} takes {found.type}; allowed: {', '.join(_TYPES)}")
        shape = [size if isinstance(size, int) and size > 0 else None for size in found.shape]
        if len(shape) != 4:
            raise ConfigError(
                f"{self.name} takes {found.shape}; a model of images takes four sizes, such as N,3,224,224"
            )
        self._input, self.kind = found.name, np.dtype(_TYPES[found.type])
        self.batch = shape[0]
        self.layout: Layout | None = "NHWC" if shape[3] == 3 and shape[1] != 3 else "NCHW" if shape[1] == 3 else None
        if self.layout is None and None not in (shape[1], shape[3]):
            raise ConfigError(f"{self.name} takes {found.shape}; pictures have three channels, as second or last size")
        self._shape = shape
        sides = [size for size in shape[1:] if size is not None]
        if max(sides, default=0) > _LARGEST_SIDE or (self.batch or 1) > _LARGEST_BATCH:
            raise ConfigError(
                f"{self.name} takes {found.shape}, which is too large; allowed: sides up to {_LARGEST_SIDE:,}, batches "
                f"up to {_LARGEST_BATCH:,}"
            )

    def size(self, layout: Layout) -> tuple[int | None, int | None]:
        """Height and width of the input, None where they are free."""
        return (self._shape[2], self._shape[3]) if layout == "NCHW" else (self._shape[1], self._shape[2])

    def try_out(self, height: int, width: int, layout: Layout) -> tuple[dict[str, int], float]:
        """How many values each output has for a picture, and the seconds that one takes; a noisy picture is run.

        Raises
        ------
        ConfigError
            Where the model does not run on a picture of this size.
        """
        noise = np.random.default_rng(0).random((self.batch or 1, height, width, 3), np.float32)
        pictures = (noise * 255).astype(np.uint8) if self.kind == np.uint8 else noise
        names = [each.name for each in self._session.get_outputs()]
        tries = []
        for _ in range(2):
            began = time.perf_counter()
            try:
                found = self._run(names, pictures, layout)
            except Exception as error:
                raise ConfigError(
                    f"{self.name} does not run on a picture of {width}x{height} ({_short(error)}); check size=, layout="
                ) from None
            tries.append(time.perf_counter() - began)
        rows = len(pictures)
        counts = {
            name: value.size // rows
            for name, value in zip(names, found, strict=True)
            if isinstance(value, np.ndarray) and value.ndim >= 1 and value.size and len(value) == rows
        }
        return counts, min(tries) / rows

    def values(self, outputs: Sequence[str], pictures: NDArray[Any], layout: Layout) -> list[NDArray[np.float64]]:
        """Each output's values for each picture (n, height, width, 3), in as many runs as the model's batch needs."""
        most = self.batch or len(pictures)
        found: list[list[NDArray[np.float64]]] = [[] for _ in outputs]
        for start in range(0, len(pictures), most):
            part = pictures[start : start + most]
            missing = (self.batch or len(part)) - len(part)
            full = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)]) if missing else part
            for parts, value in zip(found, self._run(list(outputs), full, layout), strict=True):
                parts.append(np.asarray(value, np.float64).reshape(len(full), -1)[: len(part)])
        return [np.concatenate(parts) for parts in found]

    def _run(self, outputs: list[str], pictures: NDArray[Any], layout: Layout) -> list[Any]:
        batch = pictures if layout == "NHWC" else pictures.transpose(0, 3, 1, 2)
        given = np.ascontiguousarray(batch, dtype=self.kind)
        found: list[Any] = self._session.run(outputs, {self._input: given})
        return found


def _short(error: Exception) -> str:
    """The first line of what onnxruntime says, without its own file names."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rpartition("] : ")[2][:160] if "[ONNXRuntimeError]" in text else text[:160]
