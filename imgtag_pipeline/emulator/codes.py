"""All documented errors of all gateways, by family: what `error:<code>` can ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from imgtag_pipeline.emulator.alibaba_oss.codes import CODES as OSS_CODES
from imgtag_pipeline.emulator.alibaba_viapi.codes import CODES as VIAPI_CODES
from imgtag_pipeline.emulator.gateway import Documented
from imgtag_pipeline.emulator.tencent_image.codes import V1_CODES, V2_CODES

DOCUMENTED: Final[Mapping[str, Mapping[str, Documented]]] = {
    "oss": OSS_CODES,
    "tencent_v1": V1_CODES,
    "tencent_v2": V2_CODES,
    "viapi": VIAPI_CODES,
}
