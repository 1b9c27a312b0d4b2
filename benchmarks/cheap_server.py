"""A chat-completions server that costs as little as Python can: one thread, epoll, static bytes.

    python benchmarks/cheap_server.py '{"certificate": null, "key": null}'

Prints its port and serves on 127.0.0.1 until its standard input ends; with a certificate it
speaks TLS. Only the standard library, so that it starts at once and shares nothing with what is
measured. The first step of the path decides, the rest is not looked at:

    /0, /200, /1000 ...    one completion after so many milliseconds
    /hang                  never anything
    /half                  a head and half a body, then nothing
    /sse-COUNT-US          a stream: COUNT pieces, US microseconds apart, in one write if US is 0;
                           each piece says the instant of its sending, on time.monotonic
    /count                 as JSON: requests so far, connections accepted so far and open now

A header "x-step: hang" stands for another path. benchmarks/transport.py uses nginx where it is
installed, which costs a tenth of this; tests/soak use this one.
"""

from __future__ import annotations

import heapq
import itertools
import json
import select
import socket
import ssl
import sys
import time

MODEL = "gpt-4o-mini-2024-07-18"
REPLY = (
    "The quarter closed slightly ahead of plan. Revenue grew in every region but one, where two "
    "large orders moved into the next quarter. Costs stayed flat, apart from freight, and the "
    "team expects both effects to turn within the coming months."
)
COMPLETION = json.dumps(
    {
        "id": "chatcmpl-B4nchmArkB4nchmArkB4nchmArk00",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": REPLY,
                    "refusal": None,
                    "annotations": [],
                },
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 61,
            "completion_tokens": 52,
            "total_tokens": 113,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": "fp_b3nchmark0",
    }
)
HEADERS = {
    "x-request-id": "req_00000000000000000000000000000000",
    "openai-organization": "org-bench",
    "openai-processing-ms": "371",
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-remaining-tokens": "1999872",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-reset-tokens": "3ms",
    "strict-transport-security": "max-age=31536000; includeSubDomains; preload",
    "x-content-type-options": "nosniff",
    "cf-cache-status": "DYNAMIC",
    "server": "cloudflare",
}
"""What comes with a reply of OpenAI, so that all clients read as much head as there."""

CHUNK = (
    b'data: {"id":"chatcmpl-B4nchmArkB4nchmArkB4nchmArk00","object":"chat.completion.chunk",'
    b'"created":1760000000,"model":"gpt-4o-mini-2024-07-18","service_tier":"default",'
    b'"system_fingerprint":"fp_b3nchmark0","choices":[{"index":0,"delta":{%b},"logprobs":null,'
    b'"finish_reason":%b}],"usage":null}\n\n'
)
STREAM_END = (
    b'data: {"id":"chatcmpl-B4nchmArkB4nchmArkB4nchmArk00","object":"chat.completion.chunk",'
    b'"created":1760000000,"model":"gpt-4o-mini-2024-07-18","choices":[],"usage":{'
    b'"prompt_tokens":61,"completion_tokens":52,"total_tokens":113}}\n\ndata: [DONE]\n\n'
)
RECEIVE_BYTES = 65_536


def head_of(kind, **more):
    lines = [f"{name}: {value}" for name, value in {**HEADERS, **more}.items()]
    return "\r\n".join(["HTTP/1.1 200 OK", f"content-type: {kind}", *lines, "", ""]).encode()


def whole(body):
    return head_of("application/json", **{"content-length": len(body)}) + body


ANSWER = whole(COMPLETION.encode())
STREAM_HEAD = head_of("text/event-stream; charset=utf-8", **{"transfer-encoding": "chunked"})


def framed(data):
    """Return *data* as one chunk of HTTP's own chunked coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def piece():
    """Return one event whose text is the instant of now."""
    return framed(CHUNK % (b'"content":"%.6f "' % time.monotonic(), b"null"))


class Client:
    """One connection; *received* holds what is not yet a whole request."""

    __slots__ = ("left", "needs_handshake", "received", "sock", "unsent")

    def __init__(self, sock, *, needs_handshake):
        self.sock = sock
        self.needs_handshake = needs_handshake
        self.received = b""
        self.unsent = b""
        self.left = (0, 0.0)  # pieces of the stream under way, seconds between them


class Server:
    def __init__(self, context=None):
        self.context = context
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.listener.setblocking(False)
        self.poll = select.epoll()
        self.clients = {}
        self.timers = []  # (instant, number, client, what to do)
        self.numbers = itertools.count()
        self.requests = self.accepted = 0

    def run(self, stop_fd):
        listens_at = self.listener.fileno()
        self.poll.register(listens_at, select.EPOLLIN)
        self.poll.register(stop_fd, select.EPOLLIN | select.EPOLLHUP)
        while True:
            wait_s = max(0, self.timers[0][0] - time.monotonic()) if self.timers else -1
            for fd, event in self.poll.poll(wait_s):
                if fd == stop_fd:
                    return
                if fd == listens_at:
                    self.accept()
                else:
                    self.serve(self.clients[fd], event)
            while self.timers and self.timers[0][0] <= time.monotonic():
                _, _, client, act = heapq.heappop(self.timers)
                if client.sock.fileno() >= 0:
                    act(client)

    def accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except BlockingIOError:
                return
            self.accepted += 1
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.context is not None:
                sock = self.context.wrap_socket(
                    sock, server_side=True, do_handshake_on_connect=False
                )
            client = Client(sock, needs_handshake=self.context is not None)
            self.clients[sock.fileno()] = client
            self.poll.register(sock.fileno(), select.EPOLLIN)

    def serve(self, client, event):
        try:
            if client.needs_handshake:
                client.sock.do_handshake()
                client.needs_handshake = False
            if event & select.EPOLLOUT:
                self.send(client, b"")
            self.receive(client)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            self.drop(client)

    def receive(self, client):
        # Until it would block: TLS may hold bytes that epoll knows nothing of.
        while True:
            data = client.sock.recv(RECEIVE_BYTES)
            if not data:
                self.drop(client)
                return
            client.received += data
            self.take_requests(client)
            if self.context is None and len(data) < RECEIVE_BYTES:
                return

    def take_requests(self, client):
        while True:
            head, separator, rest = client.received.partition(b"\r\n\r\n")
            if not separator:
                return
            length = int(field_in(head, b"content-length:") or 0)
            if len(rest) < length:
                return
            client.received = rest[length:]
            self.requests += 1
            self.answer(client, step_in(head))

    def answer(self, client, step):
        if step == "0":
            self.send(client, ANSWER)
        elif step.isdecimal():
            self.after(int(step) / 1e3, client, lambda client: self.send(client, ANSWER))
        elif step.startswith("sse-"):
            count, gap_us = map(int, step.split("-")[1:])
            client.left = count, gap_us / 1e6
            self.send(client, STREAM_HEAD + framed(CHUNK % (b'"role":"assistant"', b"null")))
            self.after(gap_us / 1e6, client, self.stream)
        elif step == "half":
            self.send(client, ANSWER[: -len(COMPLETION) // 2])
        elif step == "count":
            seen = {
                "requests": self.requests,
                "accepted": self.accepted,
                "open": len(self.clients),
            }
            self.send(client, whole(json.dumps(seen).encode()))

    def stream(self, client):
        count, gap_s = client.left
        if gap_s == 0:
            pieces, count = b"".join(piece() for _ in range(count)), 0
        else:
            pieces, count = piece(), count - 1
        client.left = count, gap_s
        if count:
            self.send(client, pieces)
            self.after(gap_s, client, self.stream)
            return
        end = framed(CHUNK % (b"", b'"stop"')) + framed(STREAM_END) + b"0\r\n\r\n"
        self.send(client, pieces + end)

    def after(self, seconds, client, act):
        heapq.heappush(
            self.timers, (time.monotonic() + seconds, next(self.numbers), client, act)
        )

    def send(self, client, data):
        data = client.unsent + data
        try:
            while data:
                data = data[client.sock.send(data) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        except OSError:
            self.drop(client)
            return
        if bool(data) != bool(client.unsent):
            wanted = select.EPOLLIN | (select.EPOLLOUT if data else 0)
            self.poll.modify(client.sock.fileno(), wanted)
        client.unsent = data

    def drop(self, client):
        if self.clients.pop(client.sock.fileno(), None) is not None:
            self.poll.unregister(client.sock.fileno())
        client.sock.close()


def field_in(head, name):
    """Return the value of the header *name* (lower case, with its colon), None if there is none."""
    at = head.lower().find(b"\r\n" + name)
    return head[at + 2 + len(name) :].split(b"\r\n", 1)[0].strip() if at >= 0 else None


def step_in(head):
    step = field_in(head, b"x-step:") or head.split(b" ", 2)[1].split(b"/")[1]
    return step.decode()


def main():
    settings = json.loads(sys.argv[1])
    context = None
    if settings.get("certificate"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings["certificate"], settings["key"])
    server = Server(context)
    print(server.listener.getsockname()[1], flush=True)
    server.run(sys.stdin.fileno())


if __name__ == "__main__":
    main()
