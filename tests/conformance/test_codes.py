"""Every code that the vendors document, with the class that it stands for: transient, throttled, permanent, fatal."""

from __future__ import annotations

import json

import pytest

from imgtag_pipeline.errors import (
    CallError,
    ClockSkewError,
    CredentialsExpiredError,
    FatalError,
    PermanentError,
    ThrottledError,
    TransientError,
)
from imgtag_pipeline.model import Call, Image, Reply
from imgtag_pipeline.providers import Keys, get
from imgtag_pipeline.providers.alibaba_oss.codes import CODES as OSS_CODES
from imgtag_pipeline.providers.alibaba_viapi.codes import CODES as VIAPI_CODES
from imgtag_pipeline.providers.tencent_image.codes import CODES as TENCENT_CODES

KEYS = Keys("key-id", "secret", app_id="1000001")
URL = "https://bucket.oss-cn-shanghai.aliyuncs.com/a.jpg"
TRANSIENT, THROTTLED, PERMANENT, FATAL = TransientError, ThrottledError, PermanentError, FatalError
SKEWED, EXPIRED = ClockSkewError, CredentialsExpiredError

VIAPI = [
    (400, "Throttling.User", THROTTLED),
    (400, "Throttling", THROTTLED),
    (429, "Throttling", THROTTLED),
    (400, "Throttling.Api", THROTTLED),
    (400, "Throttling.Anything", THROTTLED),
    (500, "InternalServerError", TRANSIENT),
    (500, "InternalError", TRANSIENT),
    (500, "InternalError.Algo", TRANSIENT),
    (500, "InternalError.Busy", TRANSIENT),
    (500, "InternalError.Timeout", TRANSIENT),
    (500, "InternalError.Process", TRANSIENT),
    (400, "InternalError.Unheard", TRANSIENT),
    (503, "ServiceUnavailable", TRANSIENT),
    (408, "Timeout", TRANSIENT),
    (400, "InvalidImage.Download", TRANSIENT),
    (400, "InvalidImage.URL", PERMANENT),
    (400, "InvalidImage.Content", PERMANENT),
    (400, "InvalidImage.Decode", PERMANENT),
    (400, "InvalidImage.Region", PERMANENT),
    (400, "InvalidImage.Resolution", PERMANENT),
    (400, "InvalidImage.Unsafe", PERMANENT),
    (400, "IllegalUrlParameter", PERMANENT),
    (400, "InvalidParameter.TooLarge", PERMANENT),
    (400, "InvalidFile.Content", PERMANENT),
    (400, "InvalidFile.Decode", PERMANENT),
    (400, "InvalidFile.Category", PERMANENT),
    (400, "InvalidFile.Other", PERMANENT),
    (400, "ParameterError", PERMANENT),
    (400, "ClientError.IllegalArgument", PERMANENT),
    (400, "InvalidParameter", PERMANENT),
    (400, "InvalidParameter.BadRequest", PERMANENT),
    (400, "InvalidTimeStamp.Expired", SKEWED),
    (400, "InvalidT imeStamp.Expire d", SKEWED),
    (400, "SignatureNonceUsed", TRANSIENT),
    (400, "InvalidSecurityToken.Expired", EXPIRED),
    (400, "InvalidAccessKeyId.Inactive", FATAL),
    (404, "InvalidAccessKeyId.NotFound", FATAL),
    (400, "InvalidAccessKeyId.NotFound", FATAL),
    (400, "SignatureDoesNotMatch", FATAL),
    (400, "IncompleteSignature", FATAL),
    (400, "InvalidAccessKeySecret", FATAL),
    (403, "InvalidApi.NotPurchase", FATAL),
    (400, "InvalidApi.NotPurchase", FATAL),
    (403, "InvalidApi.OutOfService", FATAL),
    (403, "InvalidApi.ForbiddenInvoke", FATAL),
    (403, "AuthFailed", FATAL),
    (403, "RamRoleAuth", FATAL),
    (403, "NoPermission", FATAL),
    (403, "EntityNotExist.Role", FATAL),
    (403, "UnsupportedHTTPMethod", FATAL),
    (400, "UnsupportedOperation", FATAL),
    (404, "UnsupportedOperation", FATAL),
    (404, "InvalidAction.NotFound", FATAL),
    (580, "Odd", TRANSIENT),
    (595, "Odd", TRANSIENT),
    (408, "Odd", TRANSIENT),
    (429, "Odd", THROTTLED),
    (400, "Odd", PERMANENT),
    (404, "Odd", PERMANENT),
]
OSS = [
    (503, "CpuLimitExceeded", "slow down", THROTTLED, "no"),
    (503, "TotalQpsLimitExceeded", "slow down", THROTTLED, "no"),
    (503, "DownloadTrafficRateLimitExceeded", "slow down", THROTTLED, "no"),
    (503, "ActiveRequestLimitExceeded", "slow down", THROTTLED, "no"),
    (503, "AnythingLimitExceeded", "slow down", THROTTLED, "no"),
    (503, "ServiceUnavailable", "", TRANSIENT, "no"),
    (500, "InternalError", "", TRANSIENT, "no"),
    (404, "NoSuchKey", "", PERMANENT, "yes"),
    (404, "NoSuchBucket", "", PERMANENT, "yes"),
    (400, "ImageTooLarge", "", PERMANENT, "yes"),
    (400, "BadRequest", "", PERMANENT, "yes"),
    (400, "InvalidArgument", "", PERMANENT, "yes"),
    (400, "MissingArgument", "", PERMANENT, "yes"),
    (400, "WatermarkError", "", PERMANENT, "yes"),
    (403, "AccessDenied", "", PERMANENT, "yes"),
    (403, "InvalidObjectState", "", PERMANENT, "yes"),
    (403, "SignatureDoesNotMatch", "", FATAL, "yes"),
    (403, "InvalidAccessKeyId", "", FATAL, "yes"),
    (403, "SecurityTokenExpired", "", EXPIRED, "yes"),
    (403, "InvalidSecurityToken", "", EXPIRED, "yes"),
    (403, "RequestTimeTooSkewed", "", SKEWED, "yes"),
    (501, "NotImplemented", "", FATAL, "no"),
    (400, "Imm Client", "InvalidArgument, no option, [id]", PERMANENT, "yes"),
    (400, "Imm Client", "InvalidAnything, no, [id]", PERMANENT, "yes"),
    (400, "Imm Client", "MissingArgument, no, [id]", PERMANENT, "yes"),
    (400, "Imm Client", "ResourceNotFound, no binding, [id]", FATAL, "yes"),
    (404, "ResourceNotFound", "no project", FATAL, "yes"),
    (400, "Imm Client", "Throttling.User, slow, [id]", THROTTLED, "yes"),
    (429, "Imm Client", "LimitExceeded.Qps, slow, [id]", THROTTLED, "yes"),
    (400, "Imm Client", "RequestLimitExceeded, slow, [id]", THROTTLED, "yes"),
    (500, "Imm Client", "InvalidArgument, broken, [id]", TRANSIENT, "no"),
    (503, "Imm Server", "Whatever, broken, [id]", TRANSIENT, "no"),
    (502, "Odd", "", TRANSIENT, "no"),
    (400, "Odd", "", PERMANENT, "yes"),
]
TENCENT = [
    *[(code, TRANSIENT) for code in (7, 8, 16, 17, 107, 108, 200, 201, 202, 203, 213)],
    *[(code, FATAL) for code in (3, 4, 5, 6, 10, 11, 12, 14)],
    *[(code, PERMANENT) for code in (21, 23, -1300, -1301, -1304, -1102, -1400, -1404, -1505, -5062, -9999, 9999)],
    *[(code, TRANSIENT) for code in (-1308, -1403, -1506, -1507, 13)],
    (15, THROTTLED),
    (9, SKEWED),
]
STATUSES = [
    (400, PERMANENT),
    (401, FATAL),
    (403, FATAL),
    (404, PERMANENT),
    (411, FATAL),
    (413, PERMANENT),
    (424, FATAL),
    (429, THROTTLED),
    (500, TRANSIENT),
    (502, TRANSIENT),
    (503, TRANSIENT),
    (504, TRANSIENT),
]
AT_MOST = {"InvalidImage.Download": 3, "SignatureNonceUsed": 2, "-1308": 3, "-1403": 3, "-1506": 3, "-1507": 3, "13": 2}


def error_of(address: str, status: int, body: bytes, **options) -> CallError:
    provider = get(address, credentials=KEYS, **options)
    call = next(provider.exchange([Image("key", URL)], {}))
    assert isinstance(call, Call)
    with pytest.raises(CallError) as caught:
        provider.check(call, Reply(status, {}, body))
    return caught.value


@pytest.mark.parametrize("form", ["json", "xml"])
@pytest.mark.parametrize(("status", "code", "kind"), VIAPI)
def test_viapi_code_stands_for_its_class(status, code, kind, form):
    """VIAPI goes by the code whatever the status, in JSON and in XML; nothing of a failure is billed."""
    as_json = json.dumps({"RequestId": "r", "Code": code, "Message": "text"}).encode()
    as_xml = f"<Error><RequestId>r</RequestId><Code>{code}</Code><Message>text</Message></Error>".encode()
    error = error_of("viapi/TaggingImage", status, as_json if form == "json" else as_xml)
    assert type(error) is kind
    assert (error.code, error.request_id, error.billing) == (code.replace(" ", ""), "r", "no")
    assert error.max_attempts == AT_MOST.get(code)


@pytest.mark.parametrize("address", ["oss_labels", "oss_tagimage"])
@pytest.mark.parametrize(("status", "code", "message", "kind", "billing"), OSS)
def test_oss_code_stands_for_its_class(status, code, message, kind, billing, address):
    """OSS bills 4xx and not 5xx; behind `Imm Client` stands the code of the processing step."""
    xml = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>r</RequestId></Error>".encode()
    error = error_of(address, status, xml)
    assert type(error) is kind
    assert error.code == (message.partition(",")[0] if code.startswith("Imm") else code)
    assert (error.request_id, error.billing) == ("r", billing)


@pytest.mark.parametrize("address", ["tencent_v1", "tencent_v2"])
@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(("code", "kind"), TENCENT)
def test_tencent_code_stands_for_its_class(code, kind, status, address):
    """Tencent goes by the body's code first; an unknown positive one goes by the status."""
    error = error_of(address, status, json.dumps({"code": code, "message": "text"}).encode())
    assert type(error) is (TRANSIENT if code == 9999 and status == 500 else kind)
    assert error.code == str(code)
    assert error.billing == ("no" if kind is THROTTLED else "unknown")
    assert error.max_attempts == AT_MOST.get(str(code))


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"{}"])
@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_tencent_status_counts_where_the_body_says_nothing(status, kind, body):
    """A 4xx may have no JSON body."""
    error = error_of("tencent_v2", status, body)
    assert type(error) is kind
    assert error.code == f"HTTP{status}"


@pytest.mark.parametrize(
    ("status", "kind"), [(302, PERMANENT), (400, PERMANENT), (429, THROTTLED), (502, TRANSIENT), (504, TRANSIENT)]
)
@pytest.mark.parametrize("address", ["viapi/TaggingImage", "oss_labels"])
def test_alibaba_status_counts_where_the_body_says_nothing(status, kind, address):
    """A page of a proxy in between has no code."""
    assert type(error_of(address, status, b"<html><body>Bad gateway</body></html>")) is kind


def test_no_code_of_a_table_is_without_a_test():
    """The tables above name every code of the providers' tables."""
    assert set(VIAPI_CODES) <= {code for _, code, _ in VIAPI}
    assert set(OSS_CODES) <= {code for _, code, _, _, _ in OSS}
    assert set(TENCENT_CODES) <= {code for code, _ in TENCENT}


def test_a_success_that_is_an_error_inside_is_an_error():
    """HTTP 200 with a code and without data goes by the code; OSS says `success: false`."""
    error = error_of("viapi/TaggingImage", 200, b'{"RequestId":"r","Code":"Throttling.User","Message":"m"}')
    assert type(error) is THROTTLED
    error = error_of("oss_tagimage", 200, b'{"RequestId":"r","success":"false","httpStatusCode":"503"}')
    assert (type(error), error.code, error.billing) == (TRANSIENT, "HTTP503", "unknown")


@pytest.mark.parametrize("address", ["viapi/TaggingImage", "oss_labels", "oss_tagimage", "tencent_v1", "tencent_v2"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"{}", b"<html><p>hello</html>", b"<!DOCTYPE html>", b"\xff\xfe"]
)
def test_a_success_that_cannot_be_read_is_asked_once_more(address, body):
    """Under HTTP 200 a body that is no answer is transient, perhaps billed, at most two attempts."""
    error = error_of(address, 200, body)
    assert (type(error), error.code) == (TRANSIENT, "MalformedReply")
    assert (error.billing, error.max_attempts) == ("unknown", 2)


def test_a_fatal_error_has_our_sentence_and_not_the_vendors():
    """SignatureDoesNotMatch repeats what was signed, with the key id and the image's URL."""
    text = "server string to sign is:POST&%2F&AccessKeyId%3Dkey-id&ImageURL=https://secret-host"
    body = json.dumps({"Code": "SignatureDoesNotMatch", "Message": text}).encode()
    error = error_of("viapi/TaggingImage", 400, body)
    assert "check the access key secret" in str(error)
    assert "key-id" not in str(error)
    assert "secret-host" not in str(error)


def test_a_message_that_quotes_what_was_signed_is_left_out():
    """Also where the code is unknown."""
    body = json.dumps({"Code": "Odd", "Message": "StringToSign: GET key-id"}).encode()
    assert "key-id" not in str(error_of("viapi/TaggingImage", 400, body))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-acs-retry-after": "5"}, 5),
        ({"x-acs-retry-after": "2000"}, 2),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "99999999"}, 900),
        ({"retry-after": "Fri, 21 Jul 2023 08:45:08 GMT", "date": "Fri, 21 Jul 2023 08:44:58 GMT"}, 10),
        ({"retry-after": "soon"}, None),
        ({"x-acs-retry-after": "-1"}, None),
        ({}, None),
    ],
)
def test_a_throttled_answer_says_how_long_to_wait(headers, seconds):
    """x-acs-retry-after and Retry-After, a number or a date, are handed on, at most 15 minutes."""
    provider = get("viapi/TaggingImage", credentials=KEYS)
    call = next(provider.exchange([Image("key", URL)], {}))
    with pytest.raises(ThrottledError) as caught:
        provider.check(call, Reply(400, headers, b'{"Code":"Throttling.User"}'))
    assert caught.value.retry_after == seconds
