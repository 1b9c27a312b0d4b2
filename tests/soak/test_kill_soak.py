"""kill -9 at random instants, and between the provider's reply and the commit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "checkpoint"))

from kill_tools import judge


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("durability", ["process", "power"])
def test_twenty_kills_lose_nothing(tmp_path, durability):
    judge(tmp_path, 20, seed=2, durability=durability)


@pytest.mark.proof
@pytest.mark.timeout(1200)
def test_a_hundred_kills_lose_nothing(tmp_path):
    judge(tmp_path, 100, seed=3)
