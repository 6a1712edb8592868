"""Codes of Tencent's image tagging, both versions: negative ones are about the image, small positive ones about us.

Docs: https://cloud.tencent.com/document/product/865/17592 and the error pages beside it.
"""

from __future__ import annotations

from typing import Final

from imgtag_pipeline.providers.toolkit.codes import (
    ONCE_MORE,
    PERMANENT,
    SKEWED,
    THROTTLED,
    TRANSIENT,
    TWICE_MORE,
    Verdict,
    by_status,
    fatal,
)

_ACCOUNT: Final = "the request or the account is refused; an unpaid bill does this too: look in the console"
_TOKEN: Final = "the token is refused; check the secret id and the secret key"
_APP: Final = "the app id does not belong to the key; check TENCENT_APP_ID"

CODES: Final[dict[int, Verdict]] = {
    3: fatal(_ACCOUNT),
    4: fatal(_TOKEN),
    5: fatal(_TOKEN),
    6: fatal(_APP),
    7: TRANSIENT,
    8: TRANSIENT,
    9: SKEWED,
    10: fatal(_ACCOUNT),
    11: fatal(_ACCOUNT),
    12: fatal(_APP),
    13: ONCE_MORE,
    14: fatal(_TOKEN),
    15: THROTTLED,
    16: TRANSIENT,
    17: TRANSIENT,
    21: PERMANENT,
    23: PERMANENT,
    107: TRANSIENT,
    108: TRANSIENT,
    200: TRANSIENT,
    201: TRANSIENT,
    202: TRANSIENT,
    203: TRANSIENT,
    213: TRANSIENT,
    -1102: PERMANENT,
    -1300: PERMANENT,
    -1301: PERMANENT,
    -1304: PERMANENT,
    -1308: TWICE_MORE,
    -1400: PERMANENT,
    -1403: TWICE_MORE,
    -1404: PERMANENT,
    -1505: PERMANENT,
    -1506: TWICE_MORE,
    -1507: TWICE_MORE,
    -5062: PERMANENT,
}
# For replies without a code in their body.
STATUSES: Final[dict[int, Verdict]] = {
    400: PERMANENT,
    401: fatal(_TOKEN),
    403: fatal(_TOKEN),
    404: PERMANENT,
    411: fatal("the gateway wants a Content-Length; check endpoint= and proxies on the way"),
    413: PERMANENT,
    424: fatal("this host does not offer the method; check endpoint= and path="),
    429: THROTTLED,
    500: TRANSIENT,
    502: TRANSIENT,
    503: TRANSIENT,
    504: TRANSIENT,
}


def verdict(code: int | None, status: int) -> Verdict:
    """What the body's code stands for, or without one the HTTP status.

    An unknown positive code is about the request or the account: one is a failed image, many stop the run.
    """
    if code is None or code == 0:
        return STATUSES.get(status) or by_status(status)
    known = CODES.get(code)
    if known is not None:
        return known
    return STATUSES.get(status, PERMANENT) if code > 0 else PERMANENT
