"""kill -9 loses nothing that was finished; tests/soak has the long proof."""

from __future__ import annotations

from kill_tools import judge


def test_a_killed_job_asks_for_no_finished_chat_again(tmp_path):
    judge(tmp_path, 3, seed=1)
