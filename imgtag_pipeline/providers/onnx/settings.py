"""What a model's files say about it: labels, preprocessing, activation. Each place has its own words for that.

Read are `imgtag` and Ultralytics' keys of the ONNX metadata, Hugging Face's `config.json` and
`preprocessor_config.json`, timm's `config.json`, WD14's `selected_tags.csv`, and `labels.txt`, in this order; each
setting is taken from the first that has it.
"""

from __future__ import annotations

import ast
import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.tagger.onnx_models.labeller import Label

Found = dict[str, Any]
Beside = Callable[[str], bytes | None]

_PIL: Final = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's number
_WD14_PARENTS: Final = {"0": "general", "4": "character", "9": "rating"}  # by Danbooru's category


def found_settings(metadata: Mapping[str, str], beside: Beside) -> Found:
    """The settings that the files say, by the names of the options of `Onnx`.

    Raises
    ------
    ConfigError
        For a file that cannot be read as what it is named.
    """
    found: Found = {}
    for name, read in _readers(metadata, beside):
        try:
            said = read()
        except (ValueError, TypeError, KeyError, LookupError, SyntaxError) as error:
            raise ConfigError(f"{name} is not understood ({type(error).__name__}: {str(error)[:100]})") from None
        for key, value in said.items():
            if value is not None:
                found.setdefault(key, value)
    return found


def _readers(metadata: Mapping[str, str], beside: Beside) -> Iterator[tuple[str, Callable[[], Found]]]:
    yield "the model's metadata", lambda: _own(metadata) | _ultralytics(metadata)
    config = beside("config.json")
    if config is not None:
        yield "config.json", lambda: _config(json.loads(config))
    processor = beside("preprocessor_config.json")
    if processor is not None:
        yield "preprocessor_config.json", lambda: _processor(json.loads(processor))
    tags = beside("selected_tags.csv")
    if tags is not None:
        yield "selected_tags.csv", lambda: _wd14(tags)
    lines = beside("labels.txt")
    if lines is not None:
        yield "labels.txt", lambda: {"labels": labels_of("labels.txt", lines)}


def labels_of(name: str, data: bytes) -> tuple[Label, ...]:
    """The labels of a file: one a line, a JSON list or object by number, or WD14's CSV."""
    if name.lower().endswith(".csv"):
        labels: tuple[Label, ...] = _wd14(data)["labels"]
        return labels
    text = data.decode("utf-8-sig")
    if name.lower().endswith(".json"):
        return _labels(json.loads(text)) or ()
    return tuple(Label(line.strip()) for line in text.splitlines() if line.strip())


def _labels(value: Any) -> tuple[Label, ...] | None:
    if isinstance(value, Mapping):
        value = [value[key] for key in sorted(value, key=int)]
    return tuple(Label(str(each)) for each in value) if value else None


def _own(metadata: Mapping[str, str]) -> Found:
    """What this package writes, see `tagger/objects/build.py`; `resize` is the resampling there."""
    if "imgtag" not in metadata:
        return {}
    said = json.loads(metadata["imgtag"])
    found = {key: said.get(key) for key in ("size", "crop", "channels", "layout", "activation", "framing")}
    found |= {"resample": said.get("resize"), "labels": _labels(said.get("labels"))}
    return found | {key: _three(said[key]) for key in ("mean", "scale") if key in said}


def _ultralytics(metadata: Mapping[str, str]) -> Found:
    if metadata.get("task") != "classify" or "names" not in metadata:
        return {}
    size = ast.literal_eval(metadata.get("imgsz", "None"))
    found = {"labels": _labels(ast.literal_eval(metadata["names"])), "size": tuple(size) if size else None}
    return found | {"mean": (0.0,) * 3, "scale": (255.0,) * 3, "crop": 1.0, "resample": "bilinear"}


def _config(said: Mapping[str, Any]) -> Found:
    """Hugging Face's, or timm's, which has `pretrained_cfg`; of a timm model on the Hub both in one."""
    found: Found = {}
    if "pretrained_cfg" in said or "input_size" in said:
        inner = said.get("pretrained_cfg", said)
        size = inner.get("input_size")
        found |= {
            "size": tuple(size[1:]) if size else None,
            "crop": inner.get("crop_pct"),
            "framing": "squash" if inner.get("crop_mode") == "squash" else None,
            "resample": inner.get("interpolation"),
            "labels": _labels(said.get("label_names") or inner.get("label_names")),
        }
        found |= {
            key: _three(inner[name], 255.0) for key, name in (("mean", "mean"), ("scale", "std")) if name in inner
        }
    if said.get("id2label"):
        found["labels"] = _labels(said["id2label"])
    if said.get("problem_type") == "multi_label_classification":
        found["activation"] = "sigmoid"
    return found


def _processor(said: Mapping[str, Any]) -> Found:
    """Hugging Face's image processor: resized, cropped, rescaled by a factor, normalised."""
    factor = float(said.get("rescale_factor", 1 / 255)) if said.get("do_rescale", True) else 1.0
    is_normalised = bool(said.get("do_normalize", "image_mean" in said))
    mean = said.get("image_mean", [0.5] * 3) if is_normalised else [0.0] * 3
    scale = said.get("image_std", [0.5] * 3) if is_normalised else [1.0] * 3
    found: Found = {"mean": _three(mean, 1 / factor), "scale": _three(scale, 1 / factor)}
    if isinstance(said.get("resample"), int):
        found["resample"] = _PIL[said["resample"]]
    resized, cropped = _sides(said.get("size")), _sides(said.get("crop_size"))
    if cropped is not None and said.get("do_center_crop", True):
        short = min(resized) if resized else min(cropped)
        return found | {"size": cropped, "framing": "crop", "crop": min(1.0, min(cropped) / short)}
    is_short = isinstance(said.get("size"), Mapping) and "shortest_edge" in said["size"]
    if resized is not None:
        crop = float(said.get("crop_pct") or 1.0)
        found |= {"size": resized, "framing": "crop" if is_short else "squash", "crop": crop}
    return found


def _sides(value: Any) -> tuple[int, int] | None:
    """Height and width of Hugging Face's sizes, in each of their three forms."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, Mapping):
        short = value.get("shortest_edge")
        return (int(short), int(short)) if short else (int(value["height"]), int(value["width"]))
    return None


def _wd14(data: bytes) -> Found:
    """SmilingWolf's taggers: BGR, 0 to 255, on a white square; their categories become parents."""
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))
    labels = tuple(
        Label(row["name"], _WD14_PARENTS.get(row.get("category") or ""), row.get("tag_id") or None) for row in rows
    )
    seen = {"framing": "pad", "channels": "BGR", "mean": (0.0,) * 3, "scale": (1.0,) * 3, "resample": "bicubic"}
    return {"labels": labels, **seen}


def _three(value: Any, factor: float = 1.0) -> tuple[float, ...]:
    """One number for each channel."""
    numbers = [value] * 3 if isinstance(value, int | float) else list(value)
    if len(numbers) != 3:
        raise ValueError(f"{len(numbers)} numbers for three channels")
    return tuple(float(each) * factor for each in numbers)
