"""What the tests of streams share: events, and the reply that they make."""

from __future__ import annotations

import json

import pytest

from lionlite.exceptions import LionError
from lionlite.service.chunks import StreamReader
from lionlite.service.reply import reply_in
from lionlite.service.secret import Secret

KEY = "canary-0123456789/abcdef+"
SSE = {"content-type": "text/event-stream", "x-request-id": "req_1"}
USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
DONE = b"data: [DONE]\n\n"


def event(chunk):
    """Return *chunk* as an event: bytes are data as they are, anything else is JSON."""
    data = chunk if isinstance(chunk, bytes) else json.dumps(chunk).encode()
    return b"data: " + data + b"\n\n"


def chunk(delta=None, *, finish=None, index=0, **top):
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c", "model": "acme-1", "choices": [choice], **top}


def said(text, **how):
    return chunk({"content": text}, **how)


STOP = chunk(finish="stop")


def reader_of(headers=SSE, **how):
    scrub = Secret(KEY).scrub
    return StreamReader(headers, now_epoch_s=0.0, scrub=scrub, provider="Acme", **how)


def read(*events, headers=SSE, done=True):
    """Return the reply of a stream of *events*, and its text piece by piece."""
    stream = b"".join(e if isinstance(e, bytes) else event(e) for e in events)
    reader = reader_of(headers)
    texts = reader.feed(stream + (DONE if done else b"")) + reader.feed_end()
    reply = reader.finish(attempts=2, waited_s=0.5, elapsed_s=1.5)
    assert (reply.attempts, reply.waited_s, reply.elapsed_s) == (2, 0.5, 1.5)
    assert reply_in(reply.raw, reply.request_id, 2, 0.5, 1.5) == reply
    assert "".join(texts) == reply.text
    return reply, texts


def error_of(*events, **how):
    with pytest.raises(LionError) as caught:
        read(*events, **how)
    return caught.value
