"""One OSS request, understood: what it is about, with its query decoded; and the replies that answer it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import quote

from imgtag_pipeline.emulator.alibaba_oss.address import Address
from imgtag_pipeline.emulator.alibaba_oss.xml import Node, document
from imgtag_pipeline.emulator.gateway import Refused, WireReply, WireRequest


@dataclass(frozen=True, slots=True)
class OssCall:
    """A request whose sender is known. `now` is the emulator's clock."""

    request: WireRequest
    address: Address
    operation: str
    query: Mapping[str, str]
    now: datetime

    @property
    def bucket(self) -> str:
        """The bucket's name, empty for calls on the service."""
        return self.address.bucket

    @property
    def key(self) -> str:
        """The object's name, empty for calls on the bucket."""
        return self.address.key

    @property
    def headers(self) -> Mapping[str, str]:
        """The request's headers, compared without case."""
        return self.request.headers

    def number(self, name: str, default: int, *, low: int, high: int) -> int:
        """A whole number of the query; raises InvalidArgument."""
        text = self.query.get(name, "")
        if not text:
            return default
        if text.isascii() and text.isdigit() and len(text) < 20 and low <= int(text) <= high:
            return int(text)
        message = f"Argument {name} must be an integer between {low} and {high}."
        raise Refused("InvalidArgument", message, details={"ArgumentName": name, "ArgumentValue": text})

    def shown(self, name: str) -> str:
        """A key as the answer shows it: percent-escaped when the request asks for `encoding-type=url`."""
        return quote(name, safe="/", errors="surrogateescape") if self.query.get("encoding-type") == "url" else name

    def encoding(self) -> list[Node]:
        """The element that says that keys are escaped, if they are."""
        return [("EncodingType", "url")] if self.query.get("encoding-type") == "url" else []


def xml_reply(root: str, content: str | Sequence[Node], headers: Mapping[str, str] | None = None) -> WireReply:
    """An XML document as a reply."""
    return WireReply(200, document(root, content), content_type="application/xml", headers=headers or {})


def empty_reply(status: int = 200, headers: Mapping[str, str] | None = None) -> WireReply:
    """A reply without a body."""
    return WireReply(status, content_type="", headers=headers or {})


def http_date(moment: datetime) -> str:
    """As in Last-Modified."""
    return format_datetime(moment, usegmt=True)


def iso_date(moment: datetime) -> str:
    """As in XML."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def parsed_date(text: str) -> datetime | None:
    """A date of a conditional header, None when it is missing or not one."""
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None
