"""PostObject: an upload by an HTML form with a signed policy; VIAPI's upload path ends here.

Docs: https://help.aliyun.com/zh/oss/developer-reference/postobject
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from imgtag_pipeline.emulator.alibaba_oss.auth import check_account, secret_of
from imgtag_pipeline.emulator.alibaba_oss.objects import ObjectStore, Stored, digest
from imgtag_pipeline.emulator.alibaba_oss.request import OssCall, empty_reply, xml_reply
from imgtag_pipeline.emulator.alibaba_oss.write import check_name, checksums, kept_headers
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.gateway import Refused, WireReply, WireRequest

_NAME: Final = re.compile(r'[;\s]name="((?:[^"\\]|\\.)*)"')
_FILE_NAME: Final = re.compile(r'filename="((?:[^"\\]|\\.)*)"')
_BOUNDARY: Final = re.compile(r'boundary="?([^";,]+)"?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Form:
    """The fields of a form by their names in lower case, and its file."""

    fields: Mapping[str, str]
    data: bytes
    file_name: str


def read_form(request: WireRequest) -> Form:
    """The form in a request's body; raises MalformedPOSTRequest. Fields behind the file are not read, as in OSS."""
    boundary = _BOUNDARY.search(request.headers.get("Content-Type", ""))
    if not boundary:
        raise Refused("MalformedPOSTRequest")
    pieces = (b"\r\n" + request.body).split(b"\r\n--" + boundary[1].strip().encode())
    fields: dict[str, str] = {}
    for piece in pieces[1:-1]:
        head, gap, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        about = head.decode(errors="replace")
        name = _NAME.search(about)
        if not gap or not name:
            raise Refused("MalformedPOSTRequest")
        if name[1].lower() == "file":
            file_name = _FILE_NAME.search(about)
            kind = re.search(r"(?im)^content-type:\s*(\S.*?)\s*$", about)
            if kind:
                fields.setdefault("content-type", kind[1])
            return Form(fields, content, file_name[1] if file_name else "")
        fields[name[1].lower()] = content.decode(errors="replace")
    raise Refused("InvalidArgument", "POST requires exactly one file upload per request.")


def authenticate_form(cloud: Cloud, request: WireRequest, bucket: str) -> str:
    """The name of the account whose key signed the form's policy; raises `Refused`."""
    form = read_form(request)
    access_key_id, policy = form.fields.get("ossaccesskeyid", ""), form.fields.get("policy", "")
    if not access_key_id or not policy:
        raise Refused("AccessDenied")
    secret = secret_of(cloud, access_key_id)
    if secret is None:
        raise Refused("InvalidAccessKeyId", details={"OSSAccessKeyId": access_key_id})
    expected = base64.b64encode(hmac.digest(secret.encode(), policy.encode(), "sha1"))
    if not hmac.compare_digest(expected, form.fields.get("signature", "").encode()):
        raise Refused("SignatureDoesNotMatch", details={"OSSAccessKeyId": access_key_id, "StringToSign": policy})
    account = check_account(cloud, access_key_id, form.fields.get("x-oss-security-token") or None)
    _check_policy(policy, {**form.fields, "bucket": bucket}, len(form.data), cloud.now())
    return account.name


class FormUpload:
    """PostObject on one store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def post(self, call: OssCall) -> WireReply:
        """Store the form's file; answers as `success_action_status` asks, 204 by default."""
        form = read_form(call.request)
        key = form.fields.get("key", "").replace("${filename}", form.file_name)
        check_name(key)
        if form.fields.get("x-oss-forbid-overwrite", "").lower() == "true" and self._store.has(call.bucket, key):
            raise Refused("FileAlreadyExists", details={"Key": key})
        found = await digest(form.data)
        names = {name.title() if not name.startswith("x-") else name: text for name, text in form.fields.items()}
        stored = Stored(len(form.data), found.md5, found.crc64, call.now, kept_headers(names))
        bucket = self._store.bucket_or_new(call.bucket, call.now)
        self._store.put(bucket, key, form.data, stored)
        head = checksums(found)
        if form.fields.get("success_action_redirect"):
            return empty_reply(303, {**head, "Location": form.fields["success_action_redirect"]})
        if form.fields.get("success_action_status") == "201":
            place = f"http://{call.request.authority}/{key}"
            fields = [("Bucket", call.bucket), ("Location", place), ("Key", key), ("ETag", head["ETag"])]
            reply = xml_reply("PostResponse", fields, head)
            reply.status = 201
            return reply
        return empty_reply(200 if form.fields.get("success_action_status") == "200" else 204, head)


def _check_policy(policy: str, fields: Mapping[str, str], size: int, now: datetime) -> None:
    try:
        found = json.loads(base64.b64decode(policy))
        expires = datetime.fromisoformat(found["expiration"])
        conditions = list(found.get("conditions", ()))
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError):
        raise Refused("InvalidPolicyDocument", "Invalid Policy: Invalid JSON or expiration.") from None
    if (expires if expires.tzinfo else expires.replace(tzinfo=UTC)) < now:
        raise Refused("AccessDenied", "Invalid according to Policy: Policy expired.")
    for condition in conditions:
        try:
            is_met = _holds(condition, fields, size)
        except (ValueError, TypeError):
            raise Refused("InvalidPolicyDocument", f"Invalid Policy: {condition}") from None
        if not is_met:
            raise Refused("AccessDenied", f"Invalid according to Policy: Policy Condition failed: {condition}")


def _holds(condition: Any, fields: Mapping[str, str], size: int) -> bool:
    match condition:
        case dict():
            return all(fields.get(str(name).lower()) == str(value) for name, value in condition.items())
        case ["content-length-range", low, high]:
            if not int(low) <= size <= int(high):
                raise Refused("EntityTooLarge" if size > int(high) else "EntityTooSmall")
            return True
        case ["eq", name, value]:
            return fields.get(str(name).removeprefix("$").lower()) == str(value)
        case ["starts-with", name, value]:
            return fields.get(str(name).removeprefix("$").lower(), "").startswith(str(value))
        case ["in", name, [*values]]:
            return fields.get(str(name).removeprefix("$").lower()) in values
        case _:
            raise Refused("InvalidPolicyDocument", f"Invalid Policy: {condition}")
