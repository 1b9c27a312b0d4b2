"""Two runs never share a file; a dead run does not keep it; a forked child takes no part."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest
from checkpoint_tools import ROOT, Provider, do, python, rows, run

from lionlite.calls.journal.checkpoint import open_checkpoint
from lionlite.exceptions import CheckpointError

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

HOLD = """
import sys
from lionlite.calls.journal.checkpoint import open_checkpoint
with open_checkpoint(sys.argv[1], len) as checkpoint:
    print("open", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.fixture
def holder(path):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "open\n"
    with process:
        yield process
        process.kill()


def test_a_second_process_is_refused_while_the_first_lives(path, holder):
    with pytest.raises(CheckpointError, match=rf"in use by process {holder.pid}: .*another file"):
        open_checkpoint(path, len)

    holder.stdin.close()
    assert holder.wait(timeout=30) == 0
    assert run(path, ["a"], len) == [1]


def test_a_killed_process_leaves_the_file_to_the_next(path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait(timeout=30)

    assert run(path, ["a"], len) == [1]
    assert [ended is None for (ended,) in rows(path, "SELECT ended FROM run")] == [True, False]


@pytest.mark.parametrize("alias", ["run.db", "./run.db", "link/run.db"])
def test_a_second_run_in_this_process_is_refused(path, alias, monkeypatch):
    (path.parent / "link").symlink_to(path.parent)
    monkeypatch.chdir(path.parent)
    with open_checkpoint(path, len), pytest.raises(CheckpointError, match="in use by this process"):
        open_checkpoint(alias, len)

    open_checkpoint(alias, len).close()


def test_of_many_threads_that_open_it_one_gets_it(path):
    together = threading.Barrier(8)
    opened, refused = [], []

    def race():
        together.wait()
        try:
            opened.append(open_checkpoint(path, len))
        except CheckpointError as error:
            refused.append(error)

    for _ in range(10):
        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(opened) == 1
        opened.pop().close()
    assert len(refused) == 70


def in_a_fork(work):
    """Return the exit code of *work*, run in a forked child."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    return child.exitcode


def test_a_forked_child_keeps_nothing_and_breaks_nothing(path):
    provider = Provider()
    with open_checkpoint(path, provider.chat) as checkpoint:
        do(checkpoint.begin(0, "a"), provider.chat, "a")
        record = checkpoint.begin(1, "b")

        def child():
            assert do(record, provider.chat, "b") == "b #2"
            assert provider.names[1] not in names
            checkpoint.close()
            with pytest.raises(CheckpointError, match=f"in use by process {os.getppid()}"):
                open_checkpoint(path, len)

        names = [record.chat(b"1").name]
        assert in_a_fork(child) == 0
        with pytest.raises(CheckpointError, match="in use by this process"):
            open_checkpoint(path, len)
        do(record, provider.chat, "b")

    assert checkpoint.trouble is None
    assert run(path, "ab", provider.chat) == ["a #1", "b #2"]


def test_a_forked_child_that_lives_on_does_not_hold_the_file(path):
    release, released = os.pipe()
    with open_checkpoint(path, len):
        child = os.fork()
        if child == 0:
            os.close(released)
            os.read(release, 1)
            os._exit(0)
    try:
        assert run(path, ["a"], len) == [1]
    finally:
        os.close(released)
        os.close(release)
        os.waitpid(child, 0)


def test_a_fork_while_threads_write_loses_nothing(path):
    provider = Provider()
    items = [f"item {number}" for number in range(200)]
    with open_checkpoint(path, provider.chat) as checkpoint:
        records = [checkpoint.begin(index, item) for index, item in enumerate(items)]
        left = list(zip(records, items, strict=True))

        def work():
            while True:
                try:
                    record, item = left.pop()
                except IndexError:
                    return
                do(record, provider.chat, item)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        codes = [in_a_fork(lambda: records[0].chat(b"in a child").keep(b"")) for _ in range(5)]
        for thread in threads:
            thread.join()

    assert codes == [0] * 5
    assert checkpoint.trouble is None
    asked = len(provider.asked)
    run(path, items, provider.chat)
    assert asked == len(provider.asked) == 200


PARENT_DIES = """
import os, sys
from checkpoint_tools import Provider, do
from lionlite.calls.journal.checkpoint import open_checkpoint

provider = Provider()
checkpoint = open_checkpoint(sys.argv[1], provider.chat)
do(checkpoint.begin(0, "a"), provider.chat, "a")
if os.fork() == 0:
    os.read(0, 1)
    os._exit(0)
os.kill(os.getpid(), 9)
"""


def test_the_child_of_a_killed_run_does_not_hold_the_file(path):
    end, held = os.pipe()
    try:
        # Its output goes nowhere: the child would keep a pipe open.
        code = python(
            PARENT_DIES, path, stdin=end, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ).returncode

        assert code == -signal.SIGKILL
        assert run(path, "a", Provider().chat) == ["a #1"]
    finally:
        os.close(held)
        os.close(end)
