"""Proxies for the tests: CONNECT, plain forwarding and SOCKS5, over TCP or TLS, in threads."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from urllib.parse import urlsplit

from wire_tools import RawServer

USER, PASSWORD = "me", "pass-CANARY"
BASIC = b"Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode())


def server_context(certificates, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / f"{name}.pem", certificates / f"{name}.key")
    return context


def over_tls(serve, context):
    """Return *serve*, after a handshake."""

    def secured(sock, number):
        try:
            tls = context.wrap_socket(sock, server_side=True)
        except ValueError:
            # The server was closed in that moment.
            return
        with tls:
            serve(tls, number)

    return secured


class ProxyServer(RawServer):
    """A proxy that asks for USER and PASSWORD; notes whom it was asked for.

    Args:
        context: Speaks TLS with it.
        wants_login: Whether to ask.
        names: Host names to addresses.
    """

    def __init__(self, *, context=None, wants_login=True, names=None):
        super().__init__(over_tls(self._talk, context) if context else self._talk)
        self._wants_login = wants_login
        self._names = names or {}
        self.asked = []

    def url(self, scheme="http", login=f"{USER}:{PASSWORD}@", host="127.0.0.1"):
        return f"{scheme}://{login}{host}:{self.port}"

    def _talk(self, sock, number):
        with sock, contextlib.suppress(ConnectionAbortedError):
            first = heard(sock, 1)
            if first == b"\x05":
                self._talk_socks(sock)
            else:
                self._talk_http(sock, first)

    def _talk_http(self, sock, head):
        while b"\r\n\r\n" not in head:
            head += heard(sock, 1)
        method, target, _ = head.split(b" ", 2)
        if self._wants_login and b"\r\nProxy-Authorization: " + BASIC + b"\r\n" not in head:
            sock.sendall(b"HTTP/1.1 407 Who\r\nConnection: close\r\nContent-Length: 3\r\n\r\nwho")
        elif method == b"CONNECT":
            host, _, port = target.decode().rpartition(":")
            with self._reach(host.strip("[]"), int(port)) as upstream:
                sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                pump(sock, upstream)
        else:
            parts = urlsplit(target.decode())
            with self._reach(parts.hostname, parts.port) as upstream:
                upstream.sendall(head)
                pump(sock, upstream)

    def _talk_socks(self, sock):
        methods = heard(sock, heard(sock, 1)[0])
        if not self._wants_login:
            sock.sendall(b"\x05\x00")
        elif 2 not in methods:
            sock.sendall(b"\x05\xff")
            return
        else:
            sock.sendall(b"\x05\x02")
            heard(sock, 1)
            pair = [heard(sock, heard(sock, 1)[0]).decode() for _ in range(2)]
            sock.sendall(b"\x01\x00" if pair == [USER, PASSWORD] else b"\x01\x01")
        _, _, _, kind = heard(sock, 4)
        if kind == 3:
            host = heard(sock, heard(sock, 1)[0]).decode()
        else:
            family, size = (socket.AF_INET, 4) if kind == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, heard(sock, size))
        port = int.from_bytes(heard(sock, 2), "big")
        try:
            upstream = self._reach(host, port)
        except OSError:
            sock.sendall(b"\x05\x05\x00\x01" + bytes(6))
            return
        with upstream:
            sock.sendall(b"\x05\x00\x00\x01" + bytes(6))
            pump(sock, upstream)

    def _reach(self, host, port):
        self.asked.append((host, port))
        return socket.create_connection((self._names.get(host, host), port))


def heard(sock, count):
    """Return exactly *count* bytes."""
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        if not piece:
            raise ConnectionAbortedError
        data += piece
    return data


def pump(one, other):
    """Copy both ways until one side has ended."""

    def copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    back = threading.Thread(target=copy, args=(other, one), daemon=True)
    back.start()
    copy(one, other)
    back.join(10)
