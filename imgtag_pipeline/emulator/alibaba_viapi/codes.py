"""Every error that VIAPI documents, with its HTTP status and message.

The list of the imagerecog manual, the gateway's own codes, and those of the asynchronous and common error pages.
"""

from __future__ import annotations

from typing import Final

from imgtag_pipeline.emulator.gateway import Documented

_TABLE: Final = (
    ("Throttling.User", 400, "Request was denied due to user flow control."),
    ("Throttling", 400, "调用被限流，请稍后再调用，或者购买QPS提升调用限制"),
    ("Throttling.Api", 400, "Request was denied due to api flow control."),
    ("InternalServerError", 500, "Internal server error."),
    ("InternalError", 500, "An internal error has occurred."),
    ("InternalError.Algo", 500, "An algorithm error has occurred."),
    ("InternalError.Busy", 500, "The service is busy."),
    ("InternalError.Process", 500, "The processing failed."),
    ("InternalError.Timeout", 500, "The processing timed out."),
    ("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server."),
    ("Timeout", 408, "Request timeout."),
    ("InvalidImage.Download", 400, "Image download failed."),
    ("InvalidImage.URL", 400, "Invalid image URL."),
    ("InvalidImage.Content", 400, "The image content is invalid."),
    ("InvalidImage.Decode", 400, "The image cannot be decoded."),
    ("InvalidImage.Region", 400, "The image is not in an OSS bucket of the Shanghai region."),
    ("InvalidImage.Resolution", 400, "The image resolution is invalid."),
    ("InvalidImage.Unsafe", 400, "The image is unsafe."),
    ("IllegalUrlParameter", 400, "The URL is illegal."),
    ("InvalidParameter.TooLarge", 400, "The image is too large."),
    ("InvalidParameter.BadRequest", 400, "A parameter is missing or invalid."),
    ("InvalidParameter", 400, "paramsIllegal"),
    ("InvalidFile.Category", 400, "The category of the file is invalid."),
    ("InvalidFile.Content", 400, "The content of the file is invalid."),
    ("InvalidFile.Decode", 400, "The file cannot be decoded."),
    ("InvalidFile.Download", 400, "The file cannot be downloaded."),
    ("ParameterError", 400, "A parameter is invalid."),
    ("ClientError.IllegalArgument", 400, "An argument is illegal."),
    ("InvalidTimeStamp.Expired", 400, "Specified time stamp or date value is expired."),
    ("SignatureNonceUsed", 400, "Specified signature nonce was used already."),
    ("SignatureDoesNotMatch", 400, "Specified signature is not matched with our calculation."),
    ("IncompleteSignature", 400, "The request signature does not conform to Aliyun standards."),
    ("InvalidAccessKeySecret", 400, "Specified access key secret is invalid."),
    ("InvalidAccessKeyId.Inactive", 400, "Specified access key is disabled."),
    ("InvalidAccessKeyId.NotFound", 404, "Specified access key is not found."),
    ("InvalidSecurityToken.Expired", 400, "Specified SecurityToken is expired."),
    ("InvalidSecurityToken.Malformed", 400, "Specified SecurityToken is malformed."),
    ("InvalidApi.NotPurchase", 403, "Specified api is not purchase."),
    ("InvalidApi.OutOfService", 403, "Specified api is out of service."),
    ("InvalidApi.ForbiddenInvoke", 403, "Specified api is forbidden to invoke."),
    ("AuthFailed", 403, "The caller is not authorized."),
    ("RamRoleAuth", 403, "The RAM role is not authorized."),
    ("EntityNotExist.Role", 403, "The role does not exist."),
    ("UnsupportedHTTPMethod", 403, "The HTTP method is not supported."),
    ("UnsupportedOperation", 400, "The specified action is not supported."),
    ("InvalidAction.NotFound", 404, "Specified api is not found, please check your url and method."),
)
CODES: Final = {code: Documented(code, status, message) for code, status, message in _TABLE}
COMMON: Final = {
    "throttle": "Throttling.User",
    "arrears": "InvalidApi.NotPurchase",
    "clock": "InvalidTimeStamp.Expired",
    "internal": "InternalServerError",
}
