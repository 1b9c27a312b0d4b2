"""Services in forked children, also where the fork went past Python."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FORKS = """
import ctypes, os
from lionlite.testing import FakeProvider

with FakeProvider() as provider, provider.service() as service:
    service.send([{"role": "user", "content": "hi"}])  # leaves a connection
    children = []
    for _ in range(2):
        # As uWSGI does it: past Python's own fork and its hooks.
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            service.send([{"role": "user", "content": "hi"}])
            os._exit(0)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert statuses == [0, 0], statuses
    names = [one.headers["idempotency-key"] for one in provider.requests]
    assert len(set(names)) == 3, names
    connections = [one.client_port for one in provider.requests]
    assert len(set(connections)) == 3, connections
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_children_of_a_fork_past_python_share_neither_names_nor_connections():
    done = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, timeout=50
    )

    assert (done.returncode, done.stderr) == (0, "")
