"""A million items need little more memory than their values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]

CODE = """
import resource
from lionlite.calls.family import {call}
def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak_mib()
values = {run}
print(peak_mib() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
@pytest.mark.parametrize(
    ("call", "run", "limit_mib"),
    [
        ("lcall", "lcall(iter(range(1_000_000)), lambda n: n, max_workers=8)", 200),
        ("icall", "sum(n for _, n in icall(iter(range(1_000_000)), lambda n: n))", 50),
    ],
    ids=["lcall keeps the values", "icall keeps nothing"],
)
def test_a_million_items_from_a_generator_stay_small(call, run, limit_mib):
    code = CODE.format(call=call, run=run)

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)

    assert float(done.stdout) < limit_mib
