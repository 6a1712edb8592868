"""All gateways in the order in which they are asked; the object storage answers what nobody else claims."""

from __future__ import annotations

from collections.abc import Sequence

from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.oss import OssGateway
from imgtag_pipeline.emulator.tencent import Tencent
from imgtag_pipeline.emulator.viapi import Viapi
from imgtag_pipeline.emulator.viapi_upload import UploadBucket, Uploads
from imgtag_pipeline.emulator.wire import Family


def all_families(cloud: Cloud) -> Sequence[Family]:
    """One gateway of each vendor, on one cloud."""
    uploads = Uploads(cloud)
    return (
        Viapi(cloud, uploads),
        Tencent(cloud, "v1"),
        Tencent(cloud, "v2"),
        UploadBucket(uploads),
        OssGateway(cloud, cloud.options.oss),
    )
