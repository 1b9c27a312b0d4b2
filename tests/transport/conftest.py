"""Certificates for the tests of TLS and proxies."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from lionlite.service.transport import connect


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True)


def certify(folder, name, names, *, authority=None):
    """Make name.pem and name.key in *folder*, signed by *authority* or by itself."""
    extension = f"subjectAltName={names}" if names else "basicConstraints=critical,CA:TRUE"
    (folder / f"{name}.ext").write_text(extension)
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    ask = ["req", *new_key, "-keyout", f"{name}.key", "-subj", f"/CN={name}"]
    openssl(*ask, "-new", "-out", f"{name}.csr", cwd=folder)
    sign = ["x509", "-req", "-in", f"{name}.csr", "-days", "2", "-extfile", f"{name}.ext"]
    by = (
        ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-CAcreateserial"]
        if authority
        else ["-signkey", f"{name}.key"]
    )
    openssl(*sign, *by, "-out", f"{name}.pem", cwd=folder)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    """A folder with an authority and what it signed: here, elsewhere; and selfmade."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificates, is not here")
    folder = tmp_path_factory.mktemp("certificates")
    certify(folder, "authority", None)
    certify(folder, "here", "DNS:localhost,IP:127.0.0.1", authority="authority")
    certify(folder, "elsewhere", "DNS:elsewhere.example", authority="authority")
    certify(folder, "selfmade", "DNS:localhost,IP:127.0.0.1")
    return folder


@pytest.fixture
def trusted(certificates, monkeypatch):
    """Trust the authority, in a context of the test's own."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "authority.pem"))
    monkeypatch.setattr(connect, "_tls", None)
