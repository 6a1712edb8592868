"""The way of the vendor's SDKs to hand in bytes: an authorised form to temporary object storage, then its URL.

Nothing of it is billed; uploaded files are gone within a day. The authorisation is signed, the form carries its own.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from imgtag_pipeline.model import Call, Quota, Reply, Request, Step, ask
from imgtag_pipeline.providers.toolkit.bodies import multipart
from imgtag_pipeline.providers.toolkit.codes import by_status, error_of, said
from imgtag_pipeline.providers.toolkit.decode import Malformed, decode, text

ENDPOINT: Final = "https://openplatform.aliyuncs.com"
VERSION: Final = "2019-12-19"
AUTHORIZE: Final = "AuthorizeFileUpload"
SEND: Final = "PostObject"


class Form(msgspec.Struct, rename="pascal"):
    """What AuthorizeFileUpload answers: the fields of the form and where to send it."""

    access_key_id: Any = None
    bucket: Any = None
    encoded_policy: Any = None
    endpoint: Any = None
    object_key: Any = None
    signature: Any = None


class Uploading(Protocol):
    """The part of the provider that an upload needs."""

    @property
    def region(self) -> str:
        """Where the action runs."""
        ...

    def upload_base(self) -> str:
        """Where uploads are authorised."""
        ...


def upload(provider: Uploading, data: bytes) -> Generator[Step, Any, str]:
    """Upload the bytes of an image; the URL for the action."""
    base = provider.upload_base()
    query = (
        ("Action", AUTHORIZE),
        ("Version", VERSION),
        ("Format", "JSON"),
        ("Product", "imagerecog"),
        ("RegionId", provider.region),
    )
    free = Quota("viapi:upload", None)
    reply = yield from ask(Call(AUTHORIZE, Request("GET", f"{base}/", query), free, is_billable=False))
    form = reply.once(form_of)
    host, key = f"{form['Bucket']}.{form['Endpoint']}", form["ObjectKey"]
    request = post(f"{urlsplit(base).scheme}://{host}/", form, data)
    yield from ask(Call(SEND, request, free, is_billable=False, is_signed=False))
    return f"http://{host}/{quote(key, safe='/-_.~')}"


def form_of(reply: Reply) -> dict[str, str]:
    """The fields of the authorisation; all must be there. Raises `Malformed`."""
    form = decode(reply.body, Form)
    named = {
        "AccessKeyId": form.access_key_id,
        "Bucket": form.bucket,
        "EncodedPolicy": form.encoded_policy,
        "Endpoint": form.endpoint,
        "ObjectKey": form.object_key,
        "Signature": form.signature,
    }
    found = {name: text(value) for name, value in named.items()}
    missing = [name for name, value in found.items() if value is None]
    host = f"{found['Bucket']}.{found['Endpoint']}"
    if missing:
        raise Malformed(f"the authorisation has no {missing[0]}")
    if any(char in host for char in "/@?#\\ \r\n"):
        raise Malformed("the authorisation names no host")
    return {name: value or "" for name, value in found.items()}


def post(url: str, form: Mapping[str, str], data: bytes) -> Request:
    """The upload: its fields first, the file last."""
    fields = {
        "OSSAccessKeyId": form["AccessKeyId"],
        "policy": form["EncodedPolicy"],
        "Signature": form["Signature"],
        "key": form["ObjectKey"],
        "success_action_status": "201",
    }
    body, kind = multipart(fields, "file", data)
    return Request("POST", url, (), (("content-type", kind),), body)


def check_sent(reply: Reply) -> None:
    """Raise when the storage did not take the file; nothing was billed."""
    if 200 <= reply.status < 300:
        return
    try:
        body = decode(reply.body, StorageError)
    except Malformed:
        body = StorageError()
    code = said(body.code) or f"HTTP{reply.status}"
    raise error_of(
        by_status(reply.status),
        code=code,
        message=said(body.message),
        request_id=said(body.request_id),
        billing="no",
        reply=reply,
    )


class StorageError(msgspec.Struct, rename="pascal"):
    """An error document of the object storage."""

    code: Any = None
    message: Any = None
    request_id: Any = None
