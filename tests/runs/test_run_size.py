"""A run keeps an outcome for each item, and little more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CODE = """
import resource
from lionlite.calls.runs.run import run
def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak_mib()
result = run(iter(range(100_000)), lambda n: n)
print(peak_mib() - before, len(result))
"""


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_a_hundred_thousand_outcomes_stay_small():
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, stdout=subprocess.PIPE)

    mib, number = done.stdout.split()
    assert (float(mib) < 200, int(number)) == (True, 100_000)
