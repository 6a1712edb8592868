"""The actions of VIAPI imagerecog: how each names its image, and what each accepts (providers' limits tables)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from imgtag_pipeline.emulator.gateway import Refused
from imgtag_pipeline.emulator.options import EmulatorOptions
from imgtag_pipeline.emulator.vision import Sight

VERSION: Final = "2019-09-30"
UPLOAD_VERSION: Final = "2019-12-19"
POLL: Final = "GetAsyncJobResult"
UPLOAD: Final = "AuthorizeFileUpload"
_MB: Final = 1 << 20
_SHANGHAI: Final = (".oss-cn-shanghai.aliyuncs.com", ".oss-cn-shanghai-internal.aliyuncs.com")
_COLOR_COUNTS: Final = frozenset(map(str, range(1, 11)))
_TASK: Final = re.compile(r"Tasks\.([1-9]\d{0,3})\.ImageURL")


@dataclass(frozen=True, slots=True)
class Action:
    """One action: the parameter that names its image, and its limits on format, bytes and pixels (all inclusive)."""

    name: str
    parameter: str
    formats: frozenset[str]
    max_bytes: int
    min_side: int = 1
    max_side: int = 1 << 30
    is_rgb_only: bool = False

    def check(self, sight: Sight) -> None:
        """Refuse an image beyond the limits, with the code that the vendor has for it."""
        if sight.n_bytes > self.max_bytes:
            raise Refused("InvalidParameter.TooLarge", f"The image is larger than {self.max_bytes} bytes.")
        if sight.format not in self.formats:
            raise Refused("InvalidImage.Content", f"The image format {sight.format} is not supported.")
        if min(sight.width, sight.height) < self.min_side or max(sight.width, sight.height) > self.max_side:
            raise Refused("InvalidImage.Resolution")
        if self.is_rgb_only and sight.bands != 3:
            raise Refused("InvalidImage.Content", "The image must have three channels.")

    def images(self, params: Mapping[str, str]) -> tuple[str, ...]:
        """The image references among the parameters, names compared with case; refuses when there is none."""
        found: tuple[str, ...]
        if self.parameter != "Tasks":
            found = (params.get(self.parameter, ""),)
            wanted = self.parameter
        else:
            numbers = sorted(int(match[1]) for match in map(_TASK.fullmatch, params) if match)
            found = tuple(params[f"Tasks.{number}.ImageURL"] for number in numbers) or ("",)
            wanted = "Tasks.1.ImageURL"
        if not all(found):
            raise Refused("InvalidParameter.BadRequest", f"{wanted} is mandatory for this action.")
        return found


def _action(
    name: str,
    parameter: str,
    formats: str,
    megabytes: float,
    sides: tuple[int, int] = (1, 1 << 30),
    is_rgb_only: bool = False,
) -> tuple[str, Action]:
    limit = int(megabytes * _MB)
    return name, Action(name, parameter, frozenset(formats.split()), limit, *sides, is_rgb_only)


ACTIONS: Final = dict(
    (
        _action("TaggingImage", "ImageURL", "JPEG PNG BMP", 3, (6, 1 << 30)),
        _action("RecognizeScene", "ImageURL", "JPEG PNG BMP", 3, (6, 1 << 30)),
        _action("DetectImageElements", "Url", "JPEG PNG BMP", 3, (1, 1280)),
        _action("RecognizeLogo", "Tasks", "JPEG PNG BMP GIF WEBP", 10),
        _action("RecognizeImageColor", "Url", "JPEG PNG BMP", 9.5, (1, 2499), is_rgb_only=True),
        _action("RecognizeImageStyle", "Url", "JPEG PNG BMP WEBP", 9.5, (1, 2999), is_rgb_only=True),
        _action("ClassifyingRubbish", "ImageURL", "JPEG PNG", 3),
        _action("DetectFruits", "ImageURL", "JPEG PNG TIFF", 3, (101, 1 << 30)),
        _action("RecognizeVehicleType", "ImageURL", "JPEG PNG", 10),
        _action("EvaluateCertificateQuality", "ImageURL", "JPEG PNG BMP", 10, (101, 4999)),
        _action("RecognizeFood", "ImageURL", "JPEG PNG BMP", 10, (100, 4096)),
        _action("TaggingAdImage", "ImageURL", "JPEG PNG BMP", 3, (6, 1 << 30)),
    )
)


def check_url(url: str, options: EmulatorOptions, own_url: str) -> None:
    """Refuse a URL that the vendor would not even fetch: Chinese characters, no http, a foreign host if that is so."""
    if not url.isascii():
        raise Refused("InvalidImage.URL", "The URL must not contain Chinese characters.")
    if options.foreign_hosts == "accept" or options.is_synthetic or (own_url and url.startswith(own_url)):
        return
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        raise Refused("InvalidImage.URL") from None
    if not host.endswith(_SHANGHAI):
        raise Refused("InvalidImage.Region")


def check_options(action: str, params: Mapping[str, str]) -> None:
    """Refuse an option of the action that is missing or out of range."""
    if action == "RecognizeImageColor" and "ColorCount" in params:
        text = params["ColorCount"]
        if text not in _COLOR_COUNTS:
            raise Refused("ParameterError", "ColorCount must be a whole number from 1 to 10.")
    if action == "EvaluateCertificateQuality":
        if not params.get("Type"):
            raise Refused("InvalidParameter.BadRequest", "Type is mandatory for this action.")
        if params["Type"] not in ("IDCard", "BusinessLicense"):
            raise Refused("ParameterError", "Type must be IDCard or BusinessLicense.")
