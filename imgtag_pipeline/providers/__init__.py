"""The providers: one file per family, found by its name; `get("viapi/TaggingImage")` or `Viapi(action=...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imgtag_pipeline.providers.contract import Provider
from imgtag_pipeline.providers.credentials import Credentials, Keys
from imgtag_pipeline.providers.registry import Description, describe, get, load_class, names

if TYPE_CHECKING:
    from imgtag_pipeline.providers.local import Local
    from imgtag_pipeline.providers.oss_labels import OssLabels
    from imgtag_pipeline.providers.oss_tagimage import OssTagimage
    from imgtag_pipeline.providers.tencent_v1 import TencentV1
    from imgtag_pipeline.providers.tencent_v2 import TencentV2
    from imgtag_pipeline.providers.viapi import Viapi

__all__ = [
    "Credentials",
    "Description",
    "Keys",
    "Local",
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
