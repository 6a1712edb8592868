"""VIAPI's longer conversations: batches of logos, jobs that are polled, and bytes that are uploaded."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from urllib.parse import parse_qsl

import pytest

from imgtag_pipeline.errors import PermanentError, TransientError
from imgtag_pipeline.model import Answer, Call, Image, Job, Moment, ReadImage, Reply, SaveJob
from imgtag_pipeline.providers import Keys, Viapi

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


# --- batches of logos ----------------------------------------------------------------------------------------------


def logo(name, url=None):
    element = {"Results": {"Label": "TV", "Rate": 99.5, "LogosData": {"Name": name, "X": 1, "Y": 2, "W": 3, "H": 4}}}
    return {**element, "ImageURL": url} if url else element


def logos_of(results):
    return [[tag.name for tag in one.tags] if isinstance(one, Answer) else one.code for one in results]


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ([logo("A", AT + "a.jpg"), logo("B", AT + "b.jpg")], [["A"], ["B"]]),
        ([logo("B", AT + "b.jpg"), logo("A", AT + "a.jpg")], [["A"], ["B"]]),
        ([logo("A"), logo("B")], [["A"], ["B"]]),
        ([logo("B", AT + "b.jpg")], ["NoResult", ["B"]]),
        (logo("A", AT + "a.jpg"), [["A"], "NoResult"]),
        (
            [{"Results": {"Label": "normal", "Rate": 99.9}, "ImageURL": AT + "a.jpg"}, logo("B", AT + "b.jpg")],
            [[], ["B"]],
        ),
        ([{"Results": [{"Label": "trademark", "Rate": 50}]}, logo("B")], [["trademark"], ["B"]]),
    ],
)
def test_a_batch_gives_every_image_its_own_logos(elements, expected):
    """By the URL that the answer repeats, else by place; `normal` is a success without logos."""
    provider = viapi("RecognizeLogo")
    exchange = provider.exchange([image("a.jpg"), image("b.jpg")], {})
    call = next(exchange)
    assert form_of(call) == {"Tasks.1.ImageURL": AT + "a.jpg", "Tasks.2.ImageURL": AT + "b.jpg"}
    reply = ok(Data={"Elements": elements})
    provider.check(call, reply)
    assert logos_of(finished(exchange, reply)) == expected


def test_a_bad_image_in_a_batch_is_one_bad_row():
    """It is not even sent."""
    exchange = viapi("RecognizeLogo", image_mode="url").exchange(
        [image("a.jpg"), image("file:///b.jpg"), image("c.jpg")], {}
    )
    call = next(exchange)
    assert set(form_of(call)) == {"Tasks.1.ImageURL", "Tasks.2.ImageURL"}
    results = finished(exchange, ok(Data={"Elements": [logo("A"), logo("C")]}))
    assert logos_of(results) == [["A"], "UnsupportedScheme", ["C"]]


def test_a_batch_with_an_image_that_cannot_be_downloaded_is_asked_in_parts():
    """Permanent for the batch, so that it is halved; transient for one image alone, or where it is about all."""
    gone = TransientError("no download", code="InvalidImage.Download")
    with pytest.raises(PermanentError, match="no download") as caught:
        start(viapi("RecognizeLogo"), "a.jpg", "b.jpg").throw(gone)
    assert caught.value.code == "InvalidImage.Download"
    with pytest.raises(TransientError):
        start(viapi("RecognizeLogo"), "a.jpg").throw(gone)
    with pytest.raises(TransientError):
        start(viapi("RecognizeLogo"), "a.jpg", "b.jpg").throw(TransientError("slow", code="ReadTimeout"))


def start(provider, *names):
    exchange = provider.exchange([image(name) for name in names], {})
    next(exchange)
    return exchange


def test_only_bad_images_make_no_call():
    """A batch of nothing costs nothing."""
    with pytest.raises(StopIteration) as done:
        next(viapi("RecognizeLogo", image_mode="url").exchange([image("file:///a.jpg")], {}))
    assert logos_of(done.value.value) == ["UnsupportedScheme"]


def test_the_batch_size_is_an_option():
    """The manual gives no number."""
    assert viapi("RecognizeLogo").batch_size == 5
    assert viapi("RecognizeLogo", batch_size=20).batch_size == 20
    assert viapi().batch_size == 1


# --- jobs ----------------------------------------------------------------------------------------------------------

RESULT = json.dumps(
    {"tags": [{"confidence": -1, "value": json.dumps({"tagInfo": {"sceneInfo": [[{"category": "s", "score": 0.5}]]}})}]}
)
DONE = state("PROCESS_SUCCESS", Result=RESULT, ErrorCode="InvalidParameter")


def submitted(exchange, job_id="job-1"):
    """Answer the submit call and the saving of its job; the first poll."""
    step = exchange.send(Reply(200, {}, json.dumps({"RequestId": job_id, "Message": "async"}).encode()))
    assert isinstance(step, SaveJob)
    assert step.job_id == job_id
    return exchange.send(None)


@pytest.mark.parametrize("body", [b"{}", b'{"RequestId": null}', b'{"RequestId": " "}', b'{"Request'])
def test_a_job_whose_id_did_not_come_is_not_bought_again(body):
    """It was taken and may be billed, but nobody can ask for its result."""
    provider = viapi("TaggingAdImage")
    submit = next(provider.exchange([image()], {}))
    with pytest.raises(TransientError) as caught:
        provider.check(submit, Reply(200, {}, body))
    assert (caught.value.code, caught.value.billing, caught.value.max_attempts) == ("MalformedReply", "unknown", 1)


def test_a_job_is_submitted_remembered_and_polled_with_growing_waits():
    """The id is remembered before the first poll; polls are free and have their own quota."""
    provider = viapi("TaggingAdImage", poll_every=1.0)
    exchange = provider.exchange([image()], {})
    submit = next(exchange)
    assert submit.is_billable
    assert submit.quota == provider.quota
    poll = submitted(exchange)
    waits = []
    for _ in range(10):
        waits.append(poll.wait)
        assert dict(poll.request.query)["JobId"] == "job-1"
        assert not poll.is_billable
        assert poll.quota.qps == 200
        poll = exchange.send(state("QUEUING" if len(waits) < 3 else "SOMETHING_NEW"))
    assert waits[:3] == [1.0, 1.5, 2.25]
    assert waits == sorted(waits)
    assert max(waits) <= 15
    (answer,) = finished(exchange, DONE)
    assert [(tag.name, tag.kind, tag.confidence) for tag in answer.tags] == [("s", "ad-scene", 0.5)]
    assert answer.request_id == "job-1"


def test_a_job_of_an_earlier_run_is_polled_and_not_bought_again():
    """At once, without a submit."""
    exchange = viapi("TaggingAdImage").exchange([image(key="k")], {"k": JOB})
    poll = next(exchange)
    assert (poll.operation, poll.wait) == ("GetAsyncJobResult", 0.0)
    assert dict(poll.request.query)["JobId"] == "old-job"
    (answer,) = finished(exchange, DONE)
    assert answer.request_id == "old-job"


def test_an_expired_job_of_an_earlier_run_is_submitted_again():
    """The vendor says so of the id, or its clock says that it lists the job no more; running ones are waited for."""
    exchange = viapi("TaggingAdImage").exchange([image(key="k")], {"k": JOB})
    next(exchange)
    assert (
        exchange.throw(PermanentError("unknown id", code="InvalidParameter.BadRequest")).operation == "TaggingAdImage"
    )
    exchange = viapi("TaggingAdImage").exchange([image(key="k")], {"k": JOB})
    next(exchange)
    assert exchange.send(state("QUEUING", "Sat, 22 Jul 2023 07:59:00 GMT")).operation == "GetAsyncJobResult"
    assert exchange.send(state("QUEUING", "Sat, 22 Jul 2023 08:01:00 GMT")).operation == "TaggingAdImage"


def test_a_job_that_was_just_taken_is_not_bought_again_when_its_id_is_refused():
    """The id cannot have expired; something else is wrong, and another job would meet the same."""
    exchange = viapi("TaggingAdImage").exchange([image()], {})
    next(exchange)
    submitted(exchange)
    with pytest.raises(StopIteration) as done:
        exchange.throw(PermanentError("unknown id", code="InvalidParameter.BadRequest"))
    (error,) = done.value.value
    assert (error.code, error.request_id) == ("InvalidParameter.BadRequest", "job-1")


@pytest.mark.parametrize("result", [None, "", "no JSON", "[1]", "{}", '{"tags": [{"value": "no JSON"}]}'])
def test_a_job_whose_result_cannot_be_read_is_a_failed_image(result):
    """It is done and paid for: it is neither polled for ever nor bought again when its files are gone."""
    provider = viapi("TaggingAdImage")
    exchange = provider.exchange([image()], {})
    next(exchange)
    poll = submitted(exchange)
    reply = state("PROCESS_SUCCESS", Result=result)
    provider.check(poll, reply)
    (error,) = finished(exchange, reply)
    assert (type(error), error.code, error.request_id) == (PermanentError, "MalformedResult", "job-1")


@pytest.mark.parametrize(
    ("end", "wait"),
    [
        (state("TIMEOUT_FAILED"), 0.0),
        (state("LIMIT_RETRY_FAILED"), 30.0),
        (state("PROCESS_FAILED", ErrorCode="InternalError.Algo"), 0.0),
        (state("PROCESS_FAILED", ErrorCode="Throttling"), 0.0),
    ],
)
def test_a_job_that_failed_by_chance_is_submitted_again_a_few_times(end, wait):
    """Three submits at most, then the image has failed with the vendor's code."""
    exchange = viapi("TaggingAdImage").exchange([image()], {})
    submit = next(exchange)
    for number in (1, 2):
        submitted(exchange, f"job-{number}")
        submit = exchange.send(end)
        assert (submit.operation, submit.wait, submit.is_settled_later) == ("TaggingAdImage", wait, True)
    submitted(exchange, "job-3")
    (error,) = finished(exchange, end)
    assert isinstance(error, PermanentError)
    assert error.request_id == "job-3"


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (state("JOB_CANCELED"), "JOB_CANCELED"),
        (state("PROCESS_FAILED", ErrorCode="InvalidImage.Content", ErrorMessage="no"), "InvalidImage.Content"),
        (state("PROCESS_FAILED", ErrorCode="InvalidImage.Download"), "InvalidImage.Download"),
        (state("PROCESS_FAILED"), "PROCESS_FAILED"),
    ],
)
def test_a_job_that_failed_for_good_is_a_failed_image(end, code):
    """HTTP 200 with the failure inside."""
    exchange = viapi("TaggingAdImage").exchange([image()], {})
    next(exchange)
    submitted(exchange)
    (error,) = finished(exchange, end)
    assert (type(error), error.code, error.request_id) == (PermanentError, code, "job-1")


def test_a_job_that_does_not_end_is_left_for_a_later_run():
    """Its id is remembered, so that it can be asked for again."""
    exchange = viapi("TaggingAdImage", job_timeout=60).exchange([image()], {})
    next(exchange)
    submitted(exchange)
    running, waits = state("PROCESSING"), []
    with pytest.raises(TransientError) as caught:
        waits.extend(step.wait for step in iter(lambda: exchange.send(running), None))
    assert caught.value.code == "JobUnfinished"
    assert 40 <= sum(waits) <= 90


def test_a_direct_answer_is_used_and_not_polled():
    """The manual prints one, against its own text."""
    exchange = viapi("TaggingAdImage").exchange([image()], {})
    next(exchange)
    (answer,) = finished(exchange, ok(Data={"TagInfo": {"objectInfo": {"Category": "w", "Score": 1}}}))
    assert [(tag.name, tag.kind) for tag in answer.tags] == [("w", "ad-object")]


def test_groups_that_are_new_keep_their_name():
    """More groups than the three may come."""
    info = {"tagInfo": {"carInfo": [[{"category": "bus", "score": "0.5"}], None]}}
    exchange = viapi("TaggingAdImage").exchange([image(key="k")], {"k": JOB})
    next(exchange)
    (answer,) = finished(exchange, state("PROCESS_SUCCESS", Result=json.dumps(info)))
    assert [(tag.name, tag.kind, tag.extra) for tag in answer.tags] == [("bus", "label", {"group": "carInfo"})]


# --- bytes ----------------------------------------------------------------------------------------------------------

FORM = {
    "AccessKeyId": "tmp",
    "Bucket": "127",
    "EncodedPolicy": "cG9saWN5",
    "Endpoint": "0.0.1:8099",
    "ObjectKey": "dir/a b",
    "Signature": "c2ln",
}


def test_bytes_are_uploaded_first():
    """Read, authorise, post the form with the file last, then the action with the upload's URL."""
    provider = viapi(image_mode="bytes", endpoint="http://127.0.0.1:8099")
    exchange = provider.exchange([image("/home/me/a.png")], {})
    step = next(exchange)
    assert isinstance(step, ReadImage)
    assert step.max_bytes == 3 << 20
    authorize = exchange.send(PNG)
    assert authorize.request.url == "http://127.0.0.1:8099/"
    asked = dict(authorize.request.query)
    assert (asked["Action"], asked["Version"], asked["Product"]) == ("AuthorizeFileUpload", "2019-12-19", "imagerecog")
    reply = Reply(200, {}, json.dumps(FORM).encode())
    provider.check(authorize, reply)
    post = exchange.send(reply)
    assert (post.request.url, post.is_signed, post.is_billable) == ("http://127.0.0.1:8099/", False, False)
    names = [part.split(b'"')[1] for part in post.request.body.split(b"form-data; name=")[1:]]
    assert names == [b"OSSAccessKeyId", b"policy", b"Signature", b"key", b"success_action_status", b"file"]
    assert PNG in post.request.body
    provider.check(post, Reply(201, {}, b""))
    action = exchange.send(Reply(201, {}, b""))
    assert form_of(action) == {"ImageURL": "http://127.0.0.1:8099/dir/a%20b"}
    assert action.is_billable


def test_uploads_to_alibaba_are_authorised_by_its_platform():
    """An endpoint of our own is asked itself."""
    assert viapi().upload_base() == "https://openplatform.aliyuncs.com"
    assert viapi(endpoint="imagerecog.cn-hangzhou.aliyuncs.com").upload_base() == "https://openplatform.aliyuncs.com"
    assert viapi(upload_endpoint="http://h:1").upload_base() == "http://h:1"


@pytest.mark.parametrize(
    ("action", "data", "code"),
    [
        ("TaggingImage", b"", "EmptyFile"),
        ("TaggingImage", b"<html></html>", "NotAnImage"),
        ("TaggingImage", b"GIF89a" + b"\x40\0\x40\0", "UnsupportedFormat"),
        ("TaggingImage", PNG + bytes(3 << 20), "ImageTooLarge"),
        ("DetectImageElements", PNG[:16] + (1281).to_bytes(4, "big") * 2, "TooManyPixels"),
        ("RecognizeFood", PNG, "TooFewPixels"),
    ],
)
def test_bytes_that_the_vendor_would_refuse_are_not_uploaded(action, data, code):
    """The row says which limit."""
    exchange = viapi(action, image_mode="bytes").exchange([image("a.png")], {})
    next(exchange)
    (error,) = finished(exchange, data)
    assert (error.code, error.billing) == (code, "no")


@pytest.mark.parametrize("error", [PermanentError("gone", code="NotFound"), TransientError("slow", code="ReadTimeout")])
def test_an_image_that_cannot_be_read_is_one_bad_row_of_its_batch(error):
    """The others are asked."""
    exchange = viapi("RecognizeLogo", image_mode="bytes").exchange([image("a.png"), image("b.png")], {})
    next(exchange)
    exchange.throw(error)
    exchange.send(PNG)
    exchange.send(Reply(200, {}, json.dumps(FORM).encode()))
    exchange.send(Reply(201, {}, b""))
    assert logos_of(finished(exchange, ok(Data={"Elements": logo("B")}))) == [error.code, ["B"]]


@pytest.mark.parametrize(
    "changed", [{"Bucket": None}, {"Endpoint": "evil.example/x?"}, {"Bucket": "a@b"}, {"Signature": ""}]
)
def test_an_authorisation_that_is_broken_is_a_malformed_reply(changed):
    """Nothing is sent to a host that is none."""
    provider = viapi(image_mode="bytes")
    exchange = provider.exchange([image("a.png")], {})
    next(exchange)
    authorize = exchange.send(PNG)
    with pytest.raises(TransientError) as caught:
        provider.check(authorize, Reply(200, {}, json.dumps(FORM | changed).encode()))
    assert (caught.value.code, caught.value.billing) == ("MalformedReply", "no")


def test_an_upload_that_is_refused_is_the_images_error():
    """The storage speaks XML."""
    provider = viapi(image_mode="bytes")
    exchange = provider.exchange([image("a.png")], {})
    next(exchange)
    exchange.send(PNG)
    post = exchange.send(Reply(200, {}, json.dumps(FORM).encode()))
    with pytest.raises(PermanentError, match="AccessDenied"):
        provider.check(post, Reply(403, {}, b"<Error><Code>AccessDenied</Code></Error>"))
    with pytest.raises(TransientError):
        provider.check(post, Reply(503, {}, b""))
