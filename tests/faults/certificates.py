"""Certificates for the tests: one authority, and servers it vouches for or not."""

from __future__ import annotations

import ssl
import subprocess

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
HERE = "subjectAltName=DNS:localhost,IP:127.0.0.1"
AUTHORITY = "basicConstraints=critical,CA:TRUE"


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True)


def certify(folder, name, extension, *, signer=None, days=2):
    """Make name.pem and name.key in *folder*, signed by *signer* or by itself."""
    (folder / f"{name}.ext").write_text(extension)
    ask = ("req", *_KEY, "-keyout", f"{name}.key", "-subj", f"/CN={name}", "-new")
    openssl(*ask, "-out", f"{name}.csr", cwd=folder)
    by = ("-signkey", f"{name}.key")
    if signer is not None:
        by = ("-CA", f"{signer}.pem", "-CAkey", f"{signer}.key", "-CAcreateserial")
    sign = ("x509", "-req", "-in", f"{name}.csr", "-days", str(days), "-extfile", f"{name}.ext")
    openssl(*sign, *by, "-out", f"{name}.pem", cwd=folder)


def make_all(folder):
    certify(folder, "authority", AUTHORITY)
    certify(folder, "here", HERE, signer="authority")
    certify(folder, "elsewhere", "subjectAltName=DNS:elsewhere.example", signer="authority")
    certify(folder, "expired", HERE, signer="authority", days=-1)
    certify(folder, "selfsigned", HERE)


def server_context(folder, name):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context
