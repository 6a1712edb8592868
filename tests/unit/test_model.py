"""The values that travel: what a reply promises to those who read it."""

from __future__ import annotations

import pickle

import pytest

from imgtag_pipeline.model import Reply


def test_a_reply_is_read_once_for_the_check_and_the_exchange():
    """The same reading with the same arguments is worked out at the first asking only."""
    asked = []

    def words(reply: Reply, separator: bytes) -> list[bytes]:
        asked.append(separator)
        return reply.body.split(separator)

    reply = Reply(200, {}, b"a,b")
    assert reply.once(words, b",") is reply.once(words, b",")
    assert reply.once(words, b";") == [b"a,b"]
    assert asked == [b",", b";"]


def test_a_reading_that_fails_fails_each_time():
    """Nothing half-read is handed to the next who asks."""

    def broken(reply: Reply) -> None:
        raise ValueError(reply.body)

    reply = Reply(200, {}, b"")
    for _ in range(2):
        with pytest.raises(ValueError, match="b''"):
            reply.once(broken)


def test_a_reply_that_was_read_is_the_same_reply():
    """What was read is no part of its value, of its text or of what is compared."""
    read, unread = Reply(200, {}, b"x"), Reply(200, {}, b"x")
    read.once(lambda reply: reply.status)
    assert read == unread
    assert repr(read) == repr(unread)
    assert pickle.loads(pickle.dumps(unread)) == unread
