"""Gets the bytes behind an image reference: the emulator's own objects, a folder of pictures, or the network."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import aiohttp

VENDOR_HOSTS: Final = (".aliyuncs.com", ".myqcloud.com")
OWN_PICTURES: Final = "/_emulator/images/"
DOWNLOAD_SECONDS: Final = 3.0  # seed 002: the service's own download limit
_MAX_BYTES: Final = 64 << 20


class NotFetched(Exception):
    """The image could not be fetched; `reason` is "url" for a reference of the wrong form, else "download"."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Pictures:
    """Where images come from.

    References at the vendors' own hosts never leave the machine: they are looked up among the emulator's objects (the
    resolvers), then in the folder by their path.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder.resolve() if folder else None
        self._session: aiohttp.ClientSession | None = None
        self._resolvers: list[Callable[[str], bytes | None]] = []
        self.own_url = ""

    def add_resolver(self, resolver: Callable[[str], bytes | None]) -> None:
        """Ask this function for the bytes of a reference before anything else; None means "not mine"."""
        self._resolvers.append(resolver)

    async def fetch(self, reference: str) -> bytes:
        """The bytes of an image; raises `NotFetched`."""
        if reference.startswith("data:"):
            return _decode_data_url(reference)
        try:
            parts = urlsplit(reference)
        except ValueError:
            raise NotFetched("url", "not a URL") from None
        for resolver in self._resolvers:
            data = resolver(reference)
            if data is not None:
                return data
        if parts.scheme in ("", "file"):
            return self._from_folder(unquote(parts.path) if parts.scheme else reference)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NotFetched("url", "not an http URL")
        if self.own_url and reference.startswith(self.own_url + OWN_PICTURES):
            return self._from_folder(unquote(parts.path).removeprefix(OWN_PICTURES))
        if parts.hostname.endswith(VENDOR_HOSTS):
            return self._from_folder(unquote(parts.path).lstrip("/"))
        return await self._download(reference)

    def read(self, name: str) -> bytes | None:
        """A file of the folder by its relative or absolute path; None when it is not there or lies outside."""
        if self._folder is None:
            return None
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder) or not path.is_file():
            return None
        return path.read_bytes()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _from_folder(self, name: str) -> bytes:
        data = self.read(name)
        if data is None:
            raise NotFetched("download", "no such picture in the emulator's folder")
        return data

    async def _download(self, url: str) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DOWNLOAD_SECONDS))
        try:
            async with self._session.get(url) as response:
                if response.status != 200:
                    raise NotFetched("download", f"HTTP {response.status}")
                data = await response.content.read(_MAX_BYTES)
                while not response.content.at_eof() and len(data) < _MAX_BYTES:
                    data += await response.content.read(_MAX_BYTES - len(data))
                return data
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            raise NotFetched("download", type(error).__name__) from None


def _decode_data_url(reference: str) -> bytes:
    head, _, payload = reference.partition(",")
    if not head.endswith(";base64"):
        return unquote_to_bytes(payload)
    try:
        return b64decode(payload, validate=True)
    except binascii.Error:
        raise NotFetched("url", "not base64") from None
