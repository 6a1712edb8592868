"""Every error that Tencent documents for its image tagging, V1 and V2: `code` in the body, or a bare HTTP status."""

from __future__ import annotations

from typing import Final

from imgtag_pipeline.emulator.gateway import Documented

_BODY: Final = (
    (3, "account abnormal,errorno is:2"),
    (4, "empty signature"),
    (5, "invalid signature string"),
    (6, "appid or bucket does not match the signature"),
    (7, "internal error"),
    (8, "internal error"),
    (9, "signature expired"),
    (10, "appid does not exist"),
    (11, "secretid does not exist"),
    (12, "appid and secretid do not match"),
    (13, "replay attack"),
    (14, "signature verification failed"),
    (15, "too many requests, rate limited"),
    (16, "bucket does not exist"),
    (17, "internal error"),
    (21, "invalid parameter"),
    (23, "request body is too large"),
    (107, "authentication service: internal error"),
    (108, "authentication service: unavailable"),
    (200, "internal error"),
    (201, "internal error"),
    (202, "internal error"),
    (203, "internal error"),
    (213, "internal error"),
    (-1102, "image decoding failed"),
    (-1300, "image is empty"),
    (-1301, "parameter is empty"),
    (-1304, "parameter is too long"),
    (-1308, "url image download failed"),
    (-1400, "illegal image format"),
    (-1403, "image download timed out"),
    (-1404, "image cannot be recognized"),
    (-1505, "url format error"),
    (-1506, "image server timed out"),
    (-1507, "image server is unreachable"),
    (-5062, "the image is banned"),
)
_HTTP: Final = (400, 401, 403, 404, 411, 413, 424, 429, 500, 502, 503, 504)

V1_CODES: Final = {str(code): Documented(str(code), 200, message) for code, message in _BODY}
# V2 adds the HTTP statuses of its table, as "HTTP404"; they come without a JSON body
V2_CODES: Final = V1_CODES | {f"HTTP{status}": Documented(f"HTTP{status}", status, "") for status in _HTTP}
COMMON: Final = {"throttle": "15", "arrears": "3", "clock": "9", "internal": "213"}
