"""The providers: one folder per family; `get("viapi/TaggingImage")` or `Viapi(action=...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgtag_pipeline.providers.contract import Provider
from imgtag_pipeline.providers.registry import Description, describe, get, load_class, names
from imgtag_pipeline.providers.toolkit.credentials import Credentials, Keys

if TYPE_CHECKING:
    from imgtag_pipeline.providers.alibaba_oss.labels import OssLabels
    from imgtag_pipeline.providers.alibaba_oss.tagimage import OssTagimage
    from imgtag_pipeline.providers.alibaba_viapi.viapi import Viapi
    from imgtag_pipeline.providers.local import Local
    from imgtag_pipeline.providers.onnx.provider import Onnx
    from imgtag_pipeline.providers.tencent_image.v1 import TencentV1
    from imgtag_pipeline.providers.tencent_image.v2 import TencentV2

__all__ = [
    "Credentials",
    "Description",
    "Keys",
    "Local",
    "Onnx",
    "OssLabels",
    "OssTagimage",
    "Provider",
    "TencentV1",
    "TencentV2",
    "Viapi",
    "describe",
    "get",
    "names",
]


def __getattr__(name: str) -> Any:
    """The class of a provider, whose file is imported now."""
    return load_class(name)
