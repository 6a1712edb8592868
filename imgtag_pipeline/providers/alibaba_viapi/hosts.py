"""Where VIAPI fetches images from: OSS of its own region; other places by later manuals, which only advise against."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from imgtag_pipeline.errors import PermanentError
from imgtag_pipeline.providers.alibaba_oss.objects import Place, Target, find_object

Hosts = Literal["region", "oss", "any"]
HOSTS: tuple[Hosts, ...] = ("region", "oss", "any")


def check_host(url: str, region: str, hosts: Hosts) -> PermanentError | None:
    """Why the vendor would not fetch the image, or None; with "any" that is the vendor's to say."""
    if hosts == "any":
        return None
    host = (urlsplit(url.strip()).hostname or "").lower()
    is_oss = host.endswith(".aliyuncs.com") and ".oss-" in host
    is_here = f".oss-{region}." in host or f".oss-{region}-internal." in host or ".oss-accelerate" in host
    if (is_oss and not is_here) or (hosts == "oss" and not (is_oss and is_here)):
        return PermanentError(
            f"the image is not in OSS of {region}, where the vendor fetches from; copy it there, or use "
            'image_mode="auto" or "bytes", or image_hosts="any"',
            code="WrongRegion" if is_oss else "ForeignHost",
        )
    return None


def object_reference(url: str) -> str | None:
    """The object of OSS that the URL leads to, as oss://bucket/key; None for any other URL."""
    found = find_object(url, Place())
    return f"oss://{found.bucket}/{found.key}" if isinstance(found, Target) else None
