"""The clients of benchmarks/transport.py, each as its users run it.

A client is made with a base_url; `call()` returns one answer, `stream()`, where there is one,
yields texts; both may be called by any number of threads. *needs* is the package it is made of.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
import threading
from urllib.parse import urlsplit

MODEL = "gpt-4o-mini"
KEY = "sk-benchmark-0000000000000000"
SYSTEM = "You are a careful financial analyst. Answer in plain English."
QUESTION = (
    "Summarise the quarterly figures in three sentences for the board, and name the one region "
    "that fell behind."
)
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
PATIENT_S = 120.0


class Lionlite:
    """A new Session for each chat, as workflows make them; budget, tokens, records and all."""

    needs = "lionlite"

    def __init__(self, base_url):
        import lionlite
        from lionlite import tokens

        # Else the first calls would count by estimate, and loading would be charged to some.
        with contextlib.suppress(OSError):
            tokens.load_encoding("o200k_base", may_download=False)
        self.session = lionlite.Session
        self.service = lionlite.Services.OpenAI(
            api_key=KEY, base_url=base_url, model=MODEL, max_requests=10**9, max_tokens=10**12
        )

    def call(self):
        return self.session(SYSTEM, service=self.service).chat(QUESTION)

    def call_until(self, timeout_s):
        return self.session(SYSTEM, service=self.service).chat(QUESTION, timeout=timeout_s)

    def stream(self):
        with self.session(SYSTEM, service=self.service).stream(QUESTION) as stream:
            yield from stream

    def close(self):
        self.service.close()


class Httpx:
    """One `httpx.Client` for all threads, with any number of connections, and json."""

    needs = "httpx"

    def __init__(self, base_url):
        import httpx

        self.url = f"{base_url}/chat/completions"
        self.limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self.context = httpx.create_ssl_context()
        self.client = self.made()

    def made(self):
        import httpx

        return httpx.Client(
            timeout=PATIENT_S,
            limits=self.limits,
            verify=self.context,
            headers={"Authorization": f"Bearer {KEY}"},
        )

    def call(self):
        reply = self.client.post(self.url, json={"model": MODEL, "messages": MESSAGES})
        return text_of(reply.content)

    def stream(self):
        body = {"model": MODEL, "messages": MESSAGES, "stream": True}
        with self.client.stream("POST", self.url, json=body) as reply:
            for line in reply.iter_lines():
                if line.startswith("data: {"):
                    choices = json.loads(line[6:])["choices"]
                    if choices and choices[0]["delta"].get("content"):
                        yield choices[0]["delta"]["content"]

    def close(self):
        self.client.close()


class HttpxEach(Httpx):
    """One `httpx.Client` for each thread, all with one TLS context."""

    def __init__(self, base_url):
        self.own = threading.local()
        super().__init__(base_url)

    @property
    def client(self):
        if not hasattr(self.own, "client"):
            self.own.client = self.made()
        return self.own.client

    @client.setter
    def client(self, client):
        self.own.client = client


class OpenAi:
    """The SDK's own client, shared, with its defaults."""

    needs = "openai"

    def __init__(self, base_url):
        import openai

        self.client = openai.OpenAI(api_key=KEY, base_url=base_url)

    def call(self):
        reply = self.client.chat.completions.create(model=MODEL, messages=MESSAGES)
        return reply.choices[0].message.content

    def stream(self):
        for chunk in self.client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True
        ):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    def close(self):
        self.client.close()


class Litellm:
    """`litellm.completion`, with its defaults."""

    needs = "litellm"

    def __init__(self, base_url):
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no look at the internet
        import litellm

        self.completion = litellm.completion
        self.options = {"model": f"openai/{MODEL}", "api_base": base_url, "api_key": KEY}

    def call(self):
        return self.completion(messages=MESSAGES, **self.options).choices[0].message.content

    def close(self):
        pass


class LangchainOpenai:
    """One `ChatOpenAI`, shared, with its defaults."""

    needs = "langchain_openai"

    def __init__(self, base_url):
        from langchain_openai import ChatOpenAI

        self.model = ChatOpenAI(model=MODEL, base_url=base_url, api_key=KEY)

    def call(self):
        return self.model.invoke(MESSAGES).content

    def close(self):
        pass


class BareSocket:
    """What the machine itself asks for: a blocking socket a thread, bytes made once, and json."""

    needs = "socket"

    def __init__(self, base_url):
        self.url = urlsplit(base_url)
        self.own = threading.local()
        self.context = ssl.create_default_context()
        body = json.dumps({"model": MODEL, "messages": MESSAGES})
        self.request = (
            f"POST {self.url.path}/chat/completions HTTP/1.1\r\nHost: {self.url.netloc}\r\n"
            f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    @property
    def sock(self):
        if not hasattr(self.own, "sock"):
            sock = socket.create_connection((self.url.hostname, self.url.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.url.scheme == "https":
                sock = self.context.wrap_socket(sock, server_hostname=self.url.hostname)
            self.own.sock = sock
        return self.own.sock

    def call(self):
        sock = self.sock
        sock.send(self.request)
        return text_of(sock.recv(65_536).partition(b"\r\n\r\n")[2] or sock.recv(65_536))

    def stream(self):
        sock = self.sock
        sock.send(self.request)
        data = b""
        while not data.endswith(b"\r\n0\r\n\r\n"):
            received = sock.recv(65_536)
            lines, _, rest = (data + received).rpartition(b"\n\n")
            for text in re.findall(rb'"content":"([^"]*)"', lines):
                yield text.decode()
            data = rest

    def close(self):
        pass


CLIENTS = {
    "bare socket": BareSocket,
    "lionlite": Lionlite,
    "httpx": Httpx,
    "httpx a thread": HttpxEach,
    "openai": OpenAi,
    "litellm": Litellm,
    "langchain-openai": LangchainOpenai,
}


def text_of(body):
    return json.loads(body)["choices"][0]["message"]["content"]
