"""Services in forked children, also where the fork went past Python."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lionlite.testing import FakeProvider

FORKS = """
import ctypes, os, sys
import lionlite as ll

with ll.Services.Compatible(base_url=sys.argv[1], model="m", api_key="k") as service:
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
"""

# Makes two processes of one number, in which the same happens next.
TWINS = """
import os, sys
import lionlite as ll

with ll.Services.Compatible(base_url=sys.argv[1], model="m", api_key="k") as service:
    service.send([{"role": "user", "content": "hi"}])
    os.getpid = lambda: 4711
    for _ in range(2):
        child = os.fork()
        if child == 0:
            service.send([{"role": "user", "content": "hi"}])
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("program", [FORKS, TWINS], ids=["past Python", "of one number"])
def test_forked_children_share_neither_names_nor_connections(program):
    # In a process of its own: a fork past Python must not find threads of the provider.
    with FakeProvider() as provider:
        done = subprocess.run(
            [sys.executable, "-c", program, provider.base_url],
            capture_output=True,
            text=True,
            timeout=50,
        )

    assert (done.returncode, done.stderr) == (0, "")
    assert len({one.headers["idempotency-key"] for one in provider.requests}) == 3
    assert len({one.client_port for one in provider.requests}) == 3
