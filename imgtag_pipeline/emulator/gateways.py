"""All gateways in the order in which they are asked; the object storage answers what nobody else claims."""

from __future__ import annotations

from collections.abc import Sequence

from imgtag_pipeline.emulator.alibaba_oss.gateway import OssGateway
from imgtag_pipeline.emulator.alibaba_viapi.gateway import Viapi
from imgtag_pipeline.emulator.alibaba_viapi.upload import UploadBucket, Uploads
from imgtag_pipeline.emulator.cloud import Cloud
from imgtag_pipeline.emulator.gateway import Family
from imgtag_pipeline.emulator.tencent_image.gateway import Tencent


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
