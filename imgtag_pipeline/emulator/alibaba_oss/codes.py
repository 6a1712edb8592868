"""The errors of OSS and of the image processing behind it (IMM), and how each is worded.

Docs: https://help.aliyun.com/zh/oss/user-guide/error-responses (XML, `EC`), the 503 page, and the IMM error page.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Final

from imgtag_pipeline.emulator.alibaba_oss.xml import document
from imgtag_pipeline.emulator.gateway import Documented

# IMM's errors come through OSS as Code "Imm Client" or "Imm Server", the code proper first in the message.
_IMM: Final = ("ImmClient.", "ImmServer.")
# An error in IMM's own form, JSON; and one inside an answer of HTTP 200, which imm/tagimage has.
_IMM_JSON: Final = "ImmJson."
IMM_INSIDE: Final = "ImmBody."
_SIGNATURE: Final = (
    "The request signature we calculated does not match the signature you provided. Check your key and signing method."
)
_TABLE: Final = (
    ("NotModified", 304, "Not Modified"),
    ("BadRequest", 400, "This image format is not supported."),
    ("EntityTooLarge", 400, "Your proposed upload exceeds the maximum allowed size."),
    ("EntityTooSmall", 400, "Your proposed upload smaller than the minimum allowed size."),
    ("ImageTooLarge", 400, "The image file is too large."),
    ("InvalidArgument", 400, "Invalid argument."),
    ("InvalidBucketName", 400, "The specified bucket is not valid."),
    ("InvalidDigest", 400, "The Content-MD5 you specified was invalid."),
    ("InvalidObjectName", 400, "The specified object is not valid."),
    ("InvalidPart", 400, "One or more of the specified parts could not be found or the specified entity tag might "
     "not have matched the part's entity tag."),
    ("InvalidPartOrder", 400, "The list of parts was not in ascending order."),
    ("InvalidPolicyDocument", 400, "The content of the form does not meet the conditions of the policy document."),
    ("MalformedPOSTRequest", 400, "The body of your POST request is not well-formed multipart/form-data."),
    ("MalformedXML", 400, "The XML you provided was not well-formed or did not validate against our schema."),
    ("MissingArgument", 400, "Missing Some Required Arguments."),
    ("RequestTimeout", 400, "Your socket connection to the server was not read from or written to in time."),
    ("WatermarkError", 400, "The watermark operation failed."),
    ("AccessDenied", 403, "You have no right to access this object because of bucket acl."),
    ("InvalidAccessKeyId", 403, "The OSS Access Key Id you provided does not exist in our records."),
    ("InvalidObjectState", 403, "The operation is not valid for the object's state"),
    ("InvalidSecurityToken", 403, "The security token you provided is invalid."),
    ("QuotaExceeded", 403, "The capacity of the emulator's object storage is used up."),
    ("RequestTimeTooSkewed", 403, "The difference between the request time and the current time is too large."),
    ("SecurityTokenExpired", 403, "The security token you provided has expired."),
    ("SignatureDoesNotMatch", 403, _SIGNATURE),
    ("UserDisable", 403, "UserDisable"),
    ("NoSuchBucket", 404, "The specified bucket does not exist."),
    ("NoSuchKey", 404, "The specified key does not exist."),
    ("NoSuchUpload", 404, "The specified upload does not exist."),
    ("MethodNotAllowed", 405, "The specified method is not allowed against this resource."),
    ("BucketAlreadyExists", 409, "The requested bucket name is not available."),
    ("BucketNotEmpty", 409, "The bucket you tried to delete is not empty."),
    ("FileAlreadyExists", 409, "The object you specified already exists and can not be overwritten."),
    ("ObjectNotAppendable", 409, "The object is not appendable"),
    ("PositionNotEqualToLength", 409, "Position is not equal to file length"),
    ("MissingContentLength", 411, "You must provide the Content-Length HTTP header."),
    ("PreconditionFailed", 412, "At least one of the pre-conditions you specified did not hold."),
    ("InvalidRange", 416, "The requested range cannot be satisfied."),
    ("InternalError", 500, "We encountered an internal error. Please try again."),
    ("NotImplemented", 501, "A header you provided implies functionality that is not implemented."),
    ("ActiveRequestLimitExceeded", 503, "Max active request limit is exceeded"),
    ("CpuLimitExceeded", 503, "Please reduce your request rate"),
    ("DownloadTrafficRateLimitExceeded", 503, "Max download traffic rate limit is exceeded"),
    ("QpsLimitExceeded", 503, "Qps limit is exceeded"),
    ("ServiceUnavailable", 503, "The server is busy. Please try again later."),
    ("TotalQpsLimitExceeded", 503, "Max total qps limit is exceeded"),
    ("UploadTrafficRateLimitExceeded", 503, "Max upload traffic rate limit is exceeded"),
    ("ImmClient.InvalidArgument", 400, "The parameter OctreeOption is required but not provided."),
    ("ImmClient.LimitExceeded", 400, "The limit of concurrent requests is exceeded."),
    ("ImmClient.MissingArgument", 400, "A required argument is missing."),
    ("ImmClient.ResourceNotFound", 400, "The specified resource project is not found."),
    ("ImmClient.Throttling", 400, "Request was denied due to request throttling."),
    ("ImmClient.AccessDenied", 403, "The request is not authorised."),
    ("ImmClient.InternalError", 500, "An internal error occurred."),
    ("ImmServer.InternalError", 500, "An internal error occurred."),
    ("ImmServer.ServiceUnavailable", 503, "The service is unavailable."),
    ("ImmJson.InvalidArgument", 400, "The argument is invalid."),
    ("ImmJson.Throttling", 400, "Request was denied due to request throttling."),
    ("ImmJson.InternalError", 500, "An internal error occurred."),
    ("ImmBody.InvalidParameter.ImageUri", 200, "The image could not be read."),
)  # fmt: skip
CODES: Final[Mapping[str, Documented]] = {code: Documented(code, status, text) for code, status, text in _TABLE}
COMMON: Final[Mapping[str, str]] = {
    "throttle": "TotalQpsLimitExceeded",
    "arrears": "UserDisable",
    "clock": "RequestTimeTooSkewed",
    "internal": "InternalError",
}
_EC: Final[Mapping[str, str]] = {
    "AccessDenied": "0003-00000001",
    "CpuLimitExceeded": "0004-00000801",
    "ImageTooLarge": "0048-00000001",
    "InternalError": "0048-00000002",
    "InvalidAccessKeyId": "0002-00000902",
    "NoSuchBucket": "0015-00000101",
    "NoSuchKey": "0026-00000001",
    "RequestTimeTooSkewed": "0002-00000504",
    "SignatureDoesNotMatch": "0002-00000201",
    "TotalQpsLimitExceeded": "0004-00000001",
}


def documented(code: str) -> Documented:
    """How a code is worded; one that is not known is a bad request that says its own name."""
    return CODES.get(code) or Documented(code, 400, code)


def error_body(
    error: Documented, message: str | None, details: Mapping[str, str], request_id: str, host: str
) -> tuple[bytes, str]:
    """The body of an error and its content type: XML, or JSON where IMM answers by itself."""
    text = error.message if message is None else message
    family, _, code = error.code.partition(".")
    if error.code.startswith(_IMM_JSON):
        found = {"RequestId": request_id, "HostId": host, "Code": code, "Message": text, "Recommend": ""}
        return json.dumps(found).encode(), "application/json"
    if error.code.startswith(IMM_INSIDE):
        inside = {"RequestId": request_id, "httpStatusCode": 400, "success": False}
        return json.dumps({**inside, "errorCode": code, "errorMessage": text}).encode(), "application/json"
    shown, ec = error.code, _EC.get(error.code)
    if error.code.startswith(_IMM):
        shown, text, ec = family.replace("Imm", "Imm "), f"{code}, {text}, [{request_id}]", "0048-00000000"
    fields = [("Code", shown), ("Message", text), ("RequestId", request_id), ("HostId", host), *details.items()]
    if ec:
        fields.append(("EC", ec))
    return document("Error", fields), "application/xml"


def error_headers(error: Documented, body: bytes) -> dict[str, str]:
    """What a client reads an error from when there can be no body (HEAD, 304)."""
    headers = {"x-oss-err": base64.b64encode(body).decode()}
    if ec := _EC.get(error.code):
        headers["x-oss-ec"] = ec
    return headers
