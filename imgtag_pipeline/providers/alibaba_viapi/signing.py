"""Puts Aliyun's signature on a VIAPI request: RPC in the query, as the manual has it, or ACS3 in the headers."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from imgtag_pipeline.core.signing import acs3, rpc
from imgtag_pipeline.model import Moment, Request
from imgtag_pipeline.providers.toolkit.credentials import Keys


def sign(request: Request, moment: Moment, keys: Keys, scheme: Literal["rpc", "acs3"]) -> Request:
    """The request signed; its query names Action and Version, which ACS3 moves to the headers."""
    return _rpc(request, moment, keys) if scheme == "rpc" else _acs3(request, moment, keys)


def _rpc(request: Request, moment: Moment, keys: Keys) -> Request:
    form = dict(parse_qsl(request.body.decode("ascii"), keep_blank_values=True)) if request.body else {}
    added = rpc.sign(
        request.method,
        {**dict(request.query), **form},
        access_key_id=keys.access_key_id,
        access_key_secret=keys.access_key_secret,
        security_token=keys.security_token,
        now=moment.now,
        nonce=moment.nonce,
    )
    return replace(request, query=(*request.query, *added.items()))


def _acs3(request: Request, moment: Moment, keys: Keys) -> Request:
    query = dict(request.query)
    action, version = query.pop("Action"), query.pop("Version")
    query.pop("Format", None)
    parts = urlsplit(request.url)
    signed = acs3.sign(
        request.method,
        parts.netloc,
        parts.path or "/",
        query,
        {**dict(request.headers), "accept": "application/json"},
        request.body,
        action=action,
        version=version,
        access_key_id=keys.access_key_id,
        access_key_secret=keys.access_key_secret,
        security_token=keys.security_token,
        now=moment.now,
        nonce=moment.nonce,
    )
    sent = tuple((name, value) for name, value in signed.items() if name != "host")  # the transport writes the same
    return replace(request, query=tuple(query.items()), headers=sent)
