"""VIAPI's calls: what is sent and signed, how answers are read, and what is refused before a call."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

import pytest

from imgtag_pipeline.core.signing import acs3, rpc
from imgtag_pipeline.errors import ConfigError, PermanentError, TransientError
from imgtag_pipeline.model import Answer, Call, Image, Job, Moment, Reply
from imgtag_pipeline.providers import Keys, Viapi
from imgtag_pipeline.providers.alibaba_viapi.actions import ACTIONS

KEYS = Keys("key-id", "secret-canary", "token-canary")
MOMENT = Moment(datetime(2023, 7, 21, 8, 30, 25, tzinfo=UTC), "nonce-1")
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (64).to_bytes(4, "big") * 2
AT = "https://b.oss-cn-shanghai.aliyuncs.com/"
JOB = Job("old-job", datetime(2023, 7, 21, 8, 0, tzinfo=UTC))


def viapi(action="TaggingImage", **options) -> Viapi:
    return Viapi(action=action, credentials=KEYS, **options)


def image(name="a.jpg", key=None) -> Image:
    return Image(key or name, name if "://" in name else AT + name)


def ok(**body) -> Reply:
    return Reply(200, {}, json.dumps({"RequestId": "r", **body}).encode())


def state(status, date=None, **data) -> Reply:
    return Reply(200, {"date": date} if date else {}, ok(Data={"Status": status, **data}).body)


def form_of(call: Call) -> dict[str, str]:
    return dict(parse_qsl(call.request.body.decode()))


def finished(exchange, value):
    """The results of an exchange that ends with this value."""
    with pytest.raises(StopIteration) as done:
        exchange.send(value)
    return done.value.value


# --- one call --------------------------------------------------------------------------------------------------


def test_a_call_has_its_parameters_in_the_form_and_the_action_in_the_query():
    """Long URLs fit a form; nothing secret is in the call before it is signed."""
    call = next(viapi("RecognizeImageColor", color_count=5).exchange([image()], {}))
    assert (call.operation, call.request.method) == ("RecognizeImageColor", "POST")
    assert call.request.url == "https://imagerecog.cn-shanghai.aliyuncs.com/"
    assert dict(call.request.query) == {"Action": "RecognizeImageColor", "Version": "2019-09-30", "Format": "JSON"}
    assert form_of(call) == {"Url": AT + "a.jpg", "ColorCount": "5"}
    assert call.is_billable
    assert call.timeout >= 10
    assert "canary" not in f"{call!r}{call.request.body!r}"


def test_certificates_say_their_type():
    """Type is required by the action."""
    call = next(viapi("EvaluateCertificateQuality", certificate_type="IDCard").exchange([image()], {}))
    assert form_of(call) == {"ImageURL": AT + "a.jpg", "Type": "IDCard"}


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        (AT + "中文.jpg", AT + "%E4%B8%AD%E6%96%87.jpg"),
        (AT + "%E4%B8%AD.jpg", AT + "%E4%B8%AD.jpg"),
        (AT + "%E4%B8%AD文.jpg", AT + "%E4%B8%AD%E6%96%87.jpg"),
        (f"  {AT}a b.jpg ", AT + "a%20b.jpg"),
        (AT + "a.jpg?x=1&y=%2F", AT + "a.jpg?x=1&y=%2F"),
    ],
)
def test_a_url_becomes_ascii_once_and_only_once(url, sent):
    """Existing escapes are left alone, the form escapes on top of it exactly once."""
    assert form_of(next(viapi().exchange([Image("k", url)], {}))) == {"ImageURL": sent}


@pytest.mark.parametrize("action", [name for name, one in ACTIONS.items() if not one.is_job])
def test_every_action_sends_its_own_parameter(action):
    """`Url` or `ImageURL`, case-sensitive; logos are numbered from 1."""
    options = {"certificate_type": "IDCard"} if action == "EvaluateCertificateQuality" else {}
    form = form_of(next(viapi(action, **options).exchange([image()], {})))
    name = "Tasks.1.ImageURL" if action == "RecognizeLogo" else ACTIONS[action].parameter
    assert form.pop(name) == AT + "a.jpg"
    assert set(form) <= {"Type"}


def test_rpc_signature_holds_on_the_wire_and_differs_each_time():
    """The verifier of the gateway accepts it; another nonce gives another signature."""
    provider = viapi()
    request = next(provider.exchange([image("a b&c=中.jpg")], {})).request
    signed = provider.sign(request, MOMENT)
    params = {**dict(signed.query), **dict(parse_qsl(signed.body.decode()))}
    assert rpc.verify("POST", params, "secret-canary")
    assert params["SecurityToken"] == "token-canary"
    again = provider.sign(request, Moment(MOMENT.now, "nonce-2"))
    assert dict(again.query)["Signature"] != params["Signature"]
    assert (signed.body, request.query) == (request.body, signed.query[:3])


@pytest.mark.parametrize("operation", ["submit", "poll"])
def test_acs3_signature_holds_on_the_wire(operation):
    """Action and version travel in headers, the query keeps only what is the action's own."""
    provider = viapi("TaggingAdImage", signature="acs3", endpoint="http://127.0.0.1:8099")
    request = next(
        provider.exchange([image("http://127.0.0.1/中.jpg", "k")], {"k": JOB} if operation == "poll" else {})
    ).request
    signed = provider.sign(request, MOMENT)
    headers = {name.lower(): value for name, value in signed.headers} | {"host": "127.0.0.1:8099"}
    assert acs3.verify(signed.method, "/", dict(signed.query), headers, signed.body, "secret-canary")
    assert headers["x-acs-action"] == ("GetAsyncJobResult" if operation == "poll" else "TaggingAdImage")
    assert dict(signed.query) == ({"JobId": "old-job"} if operation == "poll" else {})
    assert headers["x-acs-security-token"] == "token-canary"


def test_an_answer_keeps_request_id_and_unknown_fields():
    """Whatever else the vendor says of a tag is in `extra`, signed URLs without their signature."""
    exchange = viapi().exchange([image()], {})
    next(exchange)
    signed = "https://h/i.jpg?OSSAccessKeyId=canary&Expires=1&Signature=canary"
    item = {"Value": 360, "Confidence": "1", "New": {"a": [1.5]}, "Seen": signed}
    (answer,) = finished(exchange, ok(Data={"Tags": item, "Model": "v9"}))
    (tag,) = answer.tags
    assert (tag.name, tag.confidence, tag.confidence_raw) == ("360", 0.01, 1.0)
    assert tag.extra == {"New": {"a": [1.5]}, "Seen": "https://h/i.jpg", "Model": "v9"}
    assert answer.request_id == "r"


@pytest.mark.parametrize("listed", [{}, {"Tags": None}, {"Tags": ""}, {"Tags": {}}, {"Tags": []}])
def test_an_empty_list_is_an_answer_without_tags(listed):
    """However the vendor spells nothing."""
    provider = viapi()
    exchange = provider.exchange([image()], {})
    call, reply = next(exchange), ok(Data=listed)
    provider.check(call, reply)
    assert finished(exchange, reply) == [Answer((), "r")]


def test_sensitive_rubbish_is_empty_with_a_note():
    """The vendor declined to judge; that is a success without tags."""
    exchange = viapi("ClassifyingRubbish").exchange([image()], {})
    next(exchange)
    assert finished(exchange, ok(Data={"Sensitive": True})) == [Answer((), "r", "Sensitive")]


@pytest.mark.parametrize(
    ("written", "hex_color"),
    [
        ("270315", "270315"),
        ('"5A0014"', "5A0014"),
        ("1234", "001234"),
        ("0", "000000"),
        ("5E0014", "5E0014"),
        ("12E345", "12E345"),
        ('"001234"', "001234"),
        ('"1234"', "001234"),
    ],
)
def test_a_colour_keeps_its_six_digits(written, hex_color):
    """Also unquoted, where JSON takes it for a number or an infinite one."""
    provider = viapi("RecognizeImageColor")
    exchange = provider.exchange([image()], {})
    body = '{"RequestId":"r","Data":{"ColorTemplateList":{"Label":"red","Percentage":"0.5","Color":#}}}'
    body = body.replace("#", written)
    call, reply = next(exchange), Reply(200, {}, body.encode())
    provider.check(call, reply)
    ((tag,),) = (answer.tags for answer in finished(exchange, reply))
    assert tag.extra["Color"] == hex_color
    assert (tag.confidence, tag.measure) == (None, 0.5)


@pytest.mark.parametrize(
    ("item", "extra"),
    [
        ({"Value": "blur", "Score": "score", "Pass": "verify"}, {"Pass": "verify", "Score": None}),
        ({"Value": "blur", "Score": None, "Pass": "ERROR"}, {"Pass": "error", "Score": None}),
        ({"Value": "blur", "Score": 87, "Pass": True}, {"Pass": "true", "Score": 87.0}),
    ],
)
def test_a_certificate_has_a_severity_and_no_confidence(item, extra):
    """Its range is contradictory, so it is never rescaled."""
    exchange = viapi("EvaluateCertificateQuality", certificate_type="IDCard").exchange([image()], {})
    next(exchange)
    ((tag,),) = (answer.tags for answer in finished(exchange, ok(Data={"Elements": item})))
    assert (tag.confidence, tag.confidence_raw, tag.measure, tag.extra) == (None, None, extra["Score"], extra)


@pytest.mark.parametrize("confidence", [100.0001, 65000, -1, "250"])
def test_a_confidence_outside_its_scale_is_a_malformed_reply(confidence):
    """Rather no answer than a wrong one; only rounding noise is clamped."""
    provider = viapi()
    call = next(provider.exchange([image()], {}))
    with pytest.raises(TransientError) as caught:
        provider.check(call, ok(Data={"Tags": [{"Value": "a", "Confidence": confidence}]}))
    assert (caught.value.code, caught.value.request_id) == ("MalformedReply", "r")
    provider.check(call, ok(Data={"Tags": [{"Value": "a", "Confidence": 100.00005}]}))


# --- before a call ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("/home/me/a.jpg", "UnsupportedScheme"),
        ("a.jpg", "UnsupportedScheme"),
        ("C:\\a.jpg", "UnsupportedScheme"),
        ("file:///a.jpg", "UnsupportedScheme"),
        ("oss://b/a.jpg", "UnsupportedScheme"),
        ("data:image/png;base64,AAAA", "UnsupportedScheme"),
        ("http://localhost/a.jpg", "HostNotPublic"),
        ("http://10.0.0.1/a.jpg", "HostNotPublic"),
        ("http://[::1]/a.jpg", "HostNotPublic"),
        ("http://[bad/a.jpg", "InvalidUrl"),
        ("https://b.oss-cn-beijing.aliyuncs.com/a.jpg", "WrongRegion"),
        ("https://example.com/a.webp", "UnsupportedFormat"),
        ("https://example.com/a.PDF", "NotAnImage"),
    ],
)
def test_what_the_vendor_cannot_fetch_is_told_without_a_call(url, code):
    """The row's error names the way out; no step is yielded."""
    provider = viapi(image_mode="url")
    exchange = provider.exchange([Image("k", url)], {})
    with pytest.raises(StopIteration) as done:
        next(exchange)
    (error,) = done.value.value
    assert isinstance(error, PermanentError)
    assert (error.code, error.billing) == (code, "no")
    assert provider.precheck(url).code == code


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.jpg",
        "https://example.com/a",
        "https://example.com/a.webp?x-oss-process=image/format,jpg",
        "https://b.oss-cn-shanghai-internal.aliyuncs.com/a.jpg",
        "https://b.oss-accelerate.aliyuncs.com/a.jpg",
    ],
)
def test_what_might_succeed_is_asked(url):
    """An extension says nothing when there is a query; other hosts are the vendor's to judge."""
    assert viapi().precheck(url) is None


def test_foreign_hosts_can_be_refused():
    """As the first manuals demand."""
    provider = viapi(image_hosts="oss", image_mode="url")
    assert provider.precheck("https://example.com/a.jpg").code == "ForeignHost"
    assert provider.precheck(AT + "a.jpg") is None


def test_the_vendor_can_be_left_to_judge_every_host():
    """Later manuals only recommend the region's OSS."""
    assert viapi(image_hosts="any").precheck("https://b.oss-cn-beijing.aliyuncs.com/a.jpg") is None


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("HTTP://LocalHost:80", "localhost"),
        ("https://h.example:443", "h.example"),
        ("http://h:", "h"),
        ("h:81", "h:81"),
    ],
)
def test_the_host_is_signed_as_it_is_sent(endpoint, host):
    """In lower case and without the scheme's own port, as the `Host` header has it."""
    provider = viapi(endpoint=endpoint, signature="acs3")
    call = next(provider.exchange([Image("k", AT + "a.jpg")], {}))
    assert urlsplit(call.request.url).netloc == host


def test_an_emulator_on_this_machine_reaches_this_machine():
    """With a loopback endpoint, loopback images are fine."""
    assert viapi(endpoint="http://127.0.0.1:8099").precheck("http://127.0.0.1:9/a.jpg") is None


# --- for the run ----------------------------------------------------------------------------------------------------


def test_quota_is_per_account_region_and_action():
    """Two by default; the key does not show the key id."""
    quota = viapi("RecognizeFood", qps=20).quota
    assert quota.key == f"viapi:RecognizeFood:cn-shanghai:{KEYS.account}"
    assert (quota.qps, viapi().quota.qps) == (20, 2)
    assert "key-id" not in quota.key


def test_a_plan_needs_no_keys_and_a_run_does(monkeypatch):
    """`prepare` says what is missing, before the first call."""
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("imgtag_pipeline.providers.toolkit.credentials._CHAIN", "no_such_library")
    provider = Viapi(action="TaggingImage")
    assert provider.quota.key.endswith(":unknown")
    with pytest.raises(ConfigError, match="ALIBABA_CLOUD_ACCESS_KEY_ID"):
        provider.prepare()


def test_identity_holds_what_changes_results_and_nothing_else():
    """The default number of colours is the same as that number given; endpoint, pace and keys do not count."""
    assert viapi("RecognizeImageColor").identity() == viapi("RecognizeImageColor", color_count=3, qps=9).identity()
    assert viapi("RecognizeImageColor").identity() != viapi("RecognizeImageColor", color_count=4).identity()
    assert viapi(endpoint="http://h").identity() == {"provider": "viapi/TaggingImage"}


def test_prices_are_those_of_the_price_list():
    """In micro-yuan, marginal tiers; the actions of the public beta are free."""
    assert viapi().price.tiers == ((5_000_000, 2500), (30_000_000, 2000), (None, 1700))
    assert viapi("RecognizeFood").price.tiers[-1] == (None, 300)
    assert viapi("DetectFruits").price.tiers == ((None, 0),)
