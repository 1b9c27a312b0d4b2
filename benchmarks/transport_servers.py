"""The servers of benchmarks/transport.py: nginx where it is installed, else our own, plain and TLS.

`serving()` starts them on 127.0.0.1, each in a process of its own, and ends them. nginx answers
after 0, 200 and 1,000 ms (it needs the echo module to wait); what only cheap_server.py can do
(hanging, streams) it always does.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import cheap_server

ECHO_MODULES = [
    Path(folder, "ngx_http_echo_module.so")
    for folder in ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/etc/nginx/modules")
]
DELAYS_MS = (0, 200, 1000)


@dataclass
class Servers:
    """What runs; *quick* answers, *odd* hangs and streams; both by scheme.

    Attributes:
        kind: "nginx" or "cheap_server.py".
        authority: The file of the certificates to trust, None without TLS.
    """

    kind: str
    authority: str | None
    quick: dict[str, str] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)

    @property
    def schemes(self):
        return list(self.quick)

    def base_url(self, scheme, delay_ms):
        return f"{self.quick[scheme]}/{delay_ms}/v1"

    def odd_url(self, scheme, step):
        return f"{self.odd[scheme]}/{step}/v1"


@contextlib.contextmanager
def serving(*, may_use_nginx=True):
    """Run the servers; yield `Servers`."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        certified = certify(folder)
        schemes = ["http", "https"] if certified else ["http"]
        module = next((path for path in ECHO_MODULES if path.exists()), None)
        has_nginx = may_use_nginx and shutil.which("nginx") and module
        authority = str(folder / "authority.pem") if certified else None
        servers = Servers("nginx" if has_nginx else "cheap_server.py", authority)
        for scheme in schemes:
            servers.odd[scheme] = stack.enter_context(cheap(scheme, folder))
        if has_nginx:
            servers.quick = stack.enter_context(nginx(schemes, folder, module))
        else:
            servers.quick = {
                scheme: stack.enter_context(cheap(scheme, folder)) for scheme in schemes
            }
        yield servers


@contextlib.contextmanager
def cheap(scheme, folder=None):
    """Run cheap_server.py; yield its address. With "https" the certificates are in *folder*."""
    is_tls = scheme == "https"
    settings = {
        "certificate": str(folder / "here.pem") if is_tls else None,
        "key": str(folder / "here.key") if is_tls else None,
    }
    command = [sys.executable, cheap_server.__file__, json.dumps(settings)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield f"{scheme}://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


@contextlib.contextmanager
def nginx(schemes, folder, module):
    """Run one nginx with one worker; yield its addresses by scheme."""
    ports = {scheme: free_port() for scheme in schemes}
    (folder / "nginx.conf").write_text(nginx_conf(ports, folder, module))
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            for port in ports.values():
                wait_for(port)
            yield {scheme: f"{scheme}://127.0.0.1:{port}" for scheme, port in ports.items()}
        finally:
            process.terminate()


def nginx_conf(ports, folder, module):
    headers = " ".join(
        f'add_header {name} "{value}";'
        for name, value in cheap_server.HEADERS.items()
        if name != "server"
    )
    answer = f"return 200 '{cheap_server.COMPLETION}';"
    waits = " ".join(
        f"location /{delay_ms}/ {{ echo_sleep {delay_ms / 1e3}; echo_exec @done; }}"
        for delay_ms in DELAYS_MS[1:]
    )
    listens = " ".join(
        f"listen 127.0.0.1:{port} {'ssl' if scheme == 'https' else ''} backlog=4096;"
        for scheme, port in ports.items()
    )
    keys = f"ssl_certificate {folder}/here.pem; ssl_certificate_key {folder}/here.key;"
    temporary = " ".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""
    load_module {module};
    {"user root;" if os.geteuid() == 0 else ""}
    daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
    events {{ worker_connections 8192; }}
    http {{
        access_log off; default_type application/json; {temporary}
        keepalive_requests 1000000000; keepalive_timeout 600s; client_body_buffer_size 64k;
        server {{
            {listens} {keys if "https" in ports else ""} {headers}
            location /0/ {{ {answer} }}
            location @done {{ {answer} }}
            {waits}
        }}
    }}
    """


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def wait_for(port):
    ends_s = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > ends_s:
                raise
            time.sleep(0.02)
        else:
            return


def certify(folder):
    """Make an authority and a certificate for this machine in *folder*; say whether it could."""
    if shutil.which("openssl") is None:
        return False
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    (folder / "here.ext").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n"
        "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n"
    )
    for command in (
        ["req", "-x509", *key, "-keyout", "authority.key", "-out", "authority.pem", "-days", "2",
         "-subj", "/CN=authority of the benchmark", "-addext", "keyUsage=critical,keyCertSign"],
        ["req", *key, "-keyout", "here.key", "-out", "here.csr", "-subj", "/CN=localhost"],
        ["x509", "-req", "-in", "here.csr", "-CA", "authority.pem", "-CAkey", "authority.key",
         "-CAcreateserial", "-days", "2", "-extfile", "here.ext", "-out", "here.pem"],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)
    return True
