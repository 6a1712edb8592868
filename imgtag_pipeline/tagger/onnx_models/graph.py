"""What an ONNX file itself says, read without onnxruntime: how its answer is made, which files it needs beside it."""

from __future__ import annotations

from typing import Any, Final

from imgtag_pipeline.tagger.objects.onnx_file import message_fields

_PASSED_OVER: Final = frozenset(("Identity", "Cast", "Reshape", "Squeeze", "Flatten", "Transpose", "Clip"))


def last_operation(data: bytes, output: str) -> str | None:
    """The kind of the node that makes this output ("Softmax", "Gemm"), past those that only hand it on."""
    made: dict[str, tuple[str, str | None]] = {}
    for node in _graph(data, 1):
        kind, inputs, outputs = "", [], []
        for number, value in message_fields(node):
            if number == 1:
                inputs.append(bytes(value).decode())
            elif number == 2:
                outputs.append(bytes(value).decode())
            elif number == 4:
                kind = bytes(value).decode()
        made |= dict.fromkeys(outputs, (kind, inputs[0] if inputs else None))
    name: str | None = output
    for _ in range(len(made)):
        if name not in made:
            return None
        kind, before = made[name]
        if kind not in _PASSED_OVER:
            return kind
        name = before
    return None


def files_beside(data: bytes) -> list[str]:
    """The names of the files that hold weights outside of the model file."""
    found = set()
    for tensor in _graph(data, 5):
        pairs = [dict(message_fields(value)) for number, value in message_fields(tensor) if number == 13]
        found |= {bytes(pair[2]).decode() for pair in pairs if bytes(pair.get(1, b"")) == b"location"}
    return sorted(found)


def _graph(data: bytes, field: int) -> list[Any]:
    """The submessages of the graph with this number: 1 nodes, 5 weights."""
    graphs = [value for number, value in message_fields(data) if number == 7]
    return [value for graph in graphs for number, value in message_fields(graph) if number == field]
