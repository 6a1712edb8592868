"""A model, its files and the caller's options become one labeller; whatever does not fit together is one sentence."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imgtag_pipeline.errors import ConfigError
from imgtag_pipeline.providers.onnx.files import ModelFiles
from imgtag_pipeline.providers.onnx.settings import found_settings, labels_of
from imgtag_pipeline.tagger.crops import Preprocessing
from imgtag_pipeline.tagger.onnx_models.graph import files_beside, last_operation
from imgtag_pipeline.tagger.onnx_models.labeller import Activation, Label, Labeller
from imgtag_pipeline.tagger.onnx_models.session import Layout, Session

_DEFAULT_SIDE: Final = 224
_PIXELS_HELP: Final = (
    "give mean= and scale=, for example mean=0 scale=255 for values from 0 to 1, or mean=123.675,116.28,103.53 "
    "scale=58.395,57.12,57.375 as most ImageNet models want them"
)


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """The labeller, and the hashes that tell its answers from another's."""

    labeller: Labeller
    model_hash: str
    labels_hash: str
    settings: Mapping[str, Any]


def load(url: str, options: Mapping[str, Any], *, least: float) -> Loaded:
    """Read the model and what lies beside it, and try it out once.

    Parameters
    ----------
    url : str
        Path or fsspec URL.
    options : mapping
        The caller's settings by name; None leaves it to the files.
    least : float
        Less sure tags are not told.

    Raises
    ------
    ConfigError
        For a model that is none or cannot be used, and for settings that are missing or do not fit it.
    """
    files = ModelFiles(url)
    data = files.model()
    digest = hashlib.sha256(data)
    source: bytes | str = data
    beside = _files_beside(data, files)
    if beside:
        if files.path is None:
            raise ConfigError(
                f"{files.shown} keeps weights in {beside[0]} beside it; give it as a path of this machine"
            )
        source = files.path
        for name in beside:
            digest.update(files.beside(name) or b"")
    session = Session(source, files.shown)
    given = {name: value for name, value in options.items() if value is not None}
    if "labels" in given:
        given["labels"] = _given_labels(given["labels"])
    said = found_settings(session.metadata, files.beside) | given
    layout: Layout = said.get("layout") or session.layout or "NCHW"
    preprocessing = _preprocessing(session, said, layout)
    counts, seconds = session.try_out(preprocessing.height, preprocessing.width, layout)
    labels: tuple[Label, ...] = said.get("labels") or ()
    output = _output(session, counts, labels, given.get("output"))
    activation: Activation = said.get("activation") or _activation(data, output)
    features = given.get("features")
    if features is not None and features not in counts:
        raise ConfigError(f"features is {features!r}; allowed: an output of {session.name}: {', '.join(counts)}")
    size = None if features is None else counts[features]
    labeller = Labeller(
        session,
        output,
        labels,
        preprocessing,
        layout,
        activation,
        least,
        seconds,
        features=features,
        features_size=size,
    )
    named = "\n".join(f"{each.name}\t{each.parent}\t{each.id}" for each in labels)
    return Loaded(
        labeller,
        digest.hexdigest()[:16],
        hashlib.sha256(named.encode()).hexdigest()[:16],
        _settings(labeller),
    )


def _files_beside(data: bytes, files: ModelFiles) -> list[str]:
    try:
        return files_beside(data)
    except (ValueError, KeyError, UnicodeDecodeError):
        raise ConfigError(f"{files.shown} is not an ONNX model: its bytes are no such message") from None


def _given_labels(given: Any) -> tuple[Label, ...]:
    """The caller's labels: a list, or the name of a file."""
    if not isinstance(given, str):
        return tuple(Label(str(each)) for each in given)
    files = ModelFiles(given)
    data = files.beside(given.replace("\\", "/").rpartition("/")[2])
    if data is None:
        raise ConfigError(
            f"labels is {given!r}, and there is no such file; give a file with one label a line, or a list"
        )
    try:
        return labels_of(given, data)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"labels is {given!r}, which is not understood ({error})") from None


def _preprocessing(session: Session, said: Mapping[str, Any], layout: Layout) -> Preprocessing:
    own = session.size(layout)
    given = said.get("size")
    sides = (given, given) if isinstance(given, int) else tuple(given) if given else own
    height, width = (fixed or wanted or _DEFAULT_SIDE for fixed, wanted in zip(own, sides, strict=True))
    if session.kind == "uint8":
        mean, scale = (0.0,) * 3, (1.0,) * 3
    elif "mean" in said or "scale" in said:
        mean, scale = (_three(said.get("mean", 0.0)), _three(said.get("scale", 1.0)))
    else:
        raise ConfigError(f"nothing says which values {session.name} wants its pixels to have; {_PIXELS_HELP}")
    return Preprocessing(
        height,
        width,
        fit=said.get("framing", "crop"),
        crop=float(said.get("crop", 1.0)),
        resample=said.get("resample", "bicubic"),
        mean=mean,
        scale=scale,
        channels=said.get("channels", "RGB"),
    )


def _three(value: Any) -> tuple[float, float, float]:
    one, two, three = (value,) * 3 if isinstance(value, int | float) else value
    return float(one), float(two), float(three)


def _output(session: Session, counts: Mapping[str, int], labels: tuple[Label, ...], wanted: str | None) -> str:
    """The output that has one value for each label."""
    if not counts:
        raise ConfigError(f"{session.name} gives no values for a picture; it has to give one for each label")
    if not labels:
        raise ConfigError(
            f"{session.name} has no labels in its metadata, and no config.json, selected_tags.csv or labels.txt lies "
            "beside it; give labels=, a file with one a line or a list"
        )
    if wanted is not None and wanted not in counts:
        raise ConfigError(f"output is {wanted!r}; {session.name} has {', '.join(counts)}")
    for name, count in counts.items():
        if count == len(labels) and wanted in (None, name):
            return name
    shown = ", ".join(f"{count:,} ({name})" for name, count in counts.items())
    raise ConfigError(f"{session.name} gives {shown} values for a picture, and there are {len(labels):,} labels")


def _activation(data: bytes, output: str) -> Activation:
    """By the node that makes the output: values that are shares already stay as they are."""
    return "none" if last_operation(data, output) in ("Softmax", "Sigmoid") else "softmax"


def _settings(labeller: Labeller) -> dict[str, Any]:
    """What changes answers beside the model and its labels."""
    seen = labeller.preprocessing
    return {
        "size": [seen.height, seen.width],
        "framing": seen.fit,
        "crop": seen.crop,
        "resample": seen.resample,
        "mean": list(seen.mean),
        "scale": list(seen.scale),
        "channels": seen.channels,
        "activation": labeller.activation,
        "output": labeller.output,
        "least": labeller.least,
        **({} if labeller.features is None else {"features": labeller.features}),
    }
