"""Faults of the file: none loses a value, none raises into a chat, each is said with its cure."""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import stat
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from checkpoint_tools import Provider, do, python, rows, run

from lionlite.calls.journal import claim as journal_claim
from lionlite.calls.journal import opening as journal_open
from lionlite.calls.journal.checkpoint import open_checkpoint
from lionlite.calls.journal.claim import Claim
from lionlite.exceptions import CheckpointError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(journal_open, "PATIENCE_S", 0.2)


def contents(path):
    """Return the bytes of the file and of everything beside it."""
    return {one.name: one.read_bytes() for one in path.parent.iterdir() if one.is_file()}


def test_only_the_owner_may_read_it_whatever_the_umask(path):
    before = os.umask(0)
    try:
        with open_checkpoint(path, id) as checkpoint:
            do(checkpoint.begin(0, 1), id, 1)
            modes = {one.name: stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert set(modes) == {"run.db", "run.db-wal", "run.db-shm", "run.db.lock"}
    assert set(modes.values()) == {0o600}


def test_after_the_end_there_is_one_file(path):
    run(path, "abc", len)

    assert [one.name for one in path.parent.iterdir()] == ["run.db"]


def test_an_empty_file_is_filled_and_made_private(path):
    path.write_bytes(b"")
    path.chmod(0o644)

    assert run(path, ["a"], len) == [1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_odd_names_are_names(tmp_path):
    for name in ("with blank.db", "a?mode=memory", "100%.db", "ä#1.db"):
        assert run(tmp_path / name, ["a"], len) == [1]
        assert (tmp_path / name).stat().st_size > 0


def test_a_later_change_of_folder_leads_to_no_other_file(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with open_checkpoint("run.db", id) as checkpoint:
        monkeypatch.chdir(tmp_path / "elsewhere")
        do(checkpoint.begin(0, 1), id, 1)

    assert checkpoint.path == str(tmp_path / "run.db")
    assert rows(tmp_path / "run.db", "SELECT count(*) FROM item") == [(1,)]


def make_folder(path):
    path.mkdir()


def make_link(path):
    (path.parent / "real.db").write_bytes(b"")
    path.symlink_to("real.db")


def make_text(path):
    path.write_text("not a database at all, but long enough to be read as one" * 99)


def make_other_database(path):
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (a)")
        connection.commit()


def make_newer(path):
    run(path, "abc", len)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


def make_truncated(path):
    run(path, [str(number) * 50 for number in range(400)], len)
    os.truncate(path, path.stat().st_size // 2)


def make_overwritten(path):
    run(path, [str(number) * 50 for number in range(400)], len)
    with path.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(os.urandom(4096 * 4))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (make_folder, r"is no file: pass the path of a file"),
        (make_link, r"is a symbolic link: pass the path of the file itself"),
        (make_text, r"is no checkpoint: pass another path"),
        (make_other_database, r"is no checkpoint: pass another path"),
        (make_newer, r"newer lionlite \(schema 2, this one knows 1\): upgrade lionlite"),
        (make_truncated, r"cannot be used: .*Restore it from a copy"),
        (make_overwritten, r"cannot be used: .*Restore it from a copy"),
    ],
)
def test_what_is_no_sound_checkpoint_is_refused_and_left_as_it_is(path, make, said):
    make(path)
    before = contents(path)

    with pytest.raises(CheckpointError, match=said) as caught:
        open_checkpoint(path, id)

    assert str(path) in str(caught.value)
    assert contents(path) == before


def test_a_folder_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=rf"the folder {tmp_path}/no, which does not exist"):
        open_checkpoint(tmp_path / "no" / "run.db", id)


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "no").write_text("")

    with pytest.raises(CheckpointError, match=r"the folder .*no, which does not exist"):
        open_checkpoint(tmp_path / "no" / "run.db", id)


@pytest.fixture
def unwritable(tmp_path):
    """A folder that takes no files, even from root; skips where there is none."""
    folder = tmp_path / "sealed"
    folder.mkdir()
    run(folder / "old.db", "abc", len)
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)
        return
    if subprocess.run(["chattr", "+i", folder], capture_output=True).returncode:
        pytest.skip("root writes everywhere here: no chattr on this file system")
    yield folder
    subprocess.run(["chattr", "-i", folder], check=True)


@pytest.mark.parametrize("name", ["new.db", "old.db"])
def test_a_folder_that_takes_no_files_is_an_error_at_once(unwritable, name):
    with pytest.raises(CheckpointError, match=r"cannot be opened: "):
        open_checkpoint(unwritable / name, id)


READ_ONLY = """
import os, sys, tempfile
from checkpoint_tools import run

with tempfile.TemporaryDirectory() as folder:
    path = folder + "/run.db"
    run(path, "abc", len)
    os.chmod(folder, 0o777)
    os.chmod(path, 0o444)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        run(path, "abc", len)
    except Exception as error:
        print(type(error).__name__, error)
    os.seteuid(os.getuid())
"""


def test_a_file_that_cannot_be_written_is_an_error_at_once():
    done = python(READ_ONLY)

    assert re.match(r"CheckpointError .*Make the file and its folder writable", done.stdout), done


DISK_FULL = """
import resource, signal, sys
from checkpoint_tools import Provider, do
from lionlite.calls.journal.checkpoint import open_checkpoint

provider = Provider()
with open_checkpoint(sys.argv[1], provider.chat) as checkpoint:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
    for index in range(1000):
        item = f"{index} " + "x" * 2000
        value = do(checkpoint.begin(index, item), provider.chat, item)
        assert value.startswith(item), value
        if checkpoint.trouble:
            break
print(index, checkpoint.trouble)
"""


def test_a_full_disk_is_trouble_and_everything_before_it_is_kept(path):
    done = python(DISK_FULL, path)

    assert done.returncode == 0, done.stderr
    index, _, trouble = done.stdout.partition(" ")
    assert re.search(r"cannot be used any more: .*(disk|full).*run again", trouble)
    # The file is sound, and a run with room goes on.
    provider = Provider()
    items = [f"{index} " + "x" * 2000 for index in range(int(index) + 1)]
    run(path, items, provider.chat)
    assert len(provider.asked) <= 1


def test_a_real_full_disk_is_trouble(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        provider = Provider()
        with open_checkpoint(folder / "run.db", provider.chat) as checkpoint:
            for index in range(1000):
                do(checkpoint.begin(index, str(index)), lambda item: provider.chat(item * 999), "1")
                if checkpoint.trouble:
                    break

        assert "Make room on the disk" in str(checkpoint.trouble)
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fails_is_trouble(path):
    """The descriptor of the log is made that of a device that takes nothing."""
    code = """
import os, sys
from checkpoint_tools import Provider, do
from lionlite.calls.journal.checkpoint import open_checkpoint

provider = Provider()
with open_checkpoint(sys.argv[1], provider.chat) as checkpoint:
    do(checkpoint.begin(0, "a"), provider.chat, "a")
    for number in os.listdir("/proc/self/fd"):
        if os.path.realpath(f"/proc/self/fd/{number}").endswith("-wal"):
            os.dup2(os.open("/dev/full", os.O_RDWR), int(number))
    value = do(checkpoint.begin(1, "b"), provider.chat, "b")
print(value, checkpoint.trouble)
"""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = python(code, path)

    assert done.returncode == 0, done.stderr
    assert re.match(r"b #2 .*cannot be used any more: .*disk", done.stdout)
    provider = Provider()
    assert run(path, "ab", provider.chat) == ["a #1", "b #1"]


def remove(path):
    path.unlink()


def replace(path):
    other = path.with_name("other.db")
    run(other, "abc", len)
    other.replace(path)


def remove_log(path):
    path.with_name("run.db-wal").unlink()


@pytest.mark.parametrize("deed", [remove, replace, remove_log])
def test_a_file_that_is_gone_is_trouble_and_values_are_not_lost(path, deed):
    provider = Provider()
    with open_checkpoint(path, provider.chat) as checkpoint:
        do(checkpoint.begin(0, "a"), provider.chat, "a")
        deed(path)
        time.sleep(0.15)
        value = do(checkpoint.begin(1, "b"), provider.chat, "b")
        late = do(checkpoint.begin(2, "c"), provider.chat, "c")

    assert [value, late] == ["b #2", "c #3"]
    assert "was deleted or replaced. Leave it alone" in str(checkpoint.trouble)


def test_a_file_made_in_place_of_a_deleted_one_is_not_touched(path):
    first = open_checkpoint(path, len)
    for one in list(path.parent.iterdir()):
        one.unlink()
    with open_checkpoint(path, len) as second:
        do(second.begin(0, "a"), len, "a")
        before = contents(path)
        first.close()

        assert contents(path) == before
        do(second.begin(1, "b"), len, "b")
    assert rows(path, "SELECT key FROM item") == [('"a"',), ('"b"',)]


def test_a_program_that_locks_the_file_is_waited_for(path):
    provider = Provider()
    with open_checkpoint(path, provider.chat) as checkpoint:
        with closing(sqlite3.connect(path, check_same_thread=False)) as other:
            other.execute("BEGIN IMMEDIATE")
            ends = threading.Timer(0.3, other.rollback)
            ends.start()
            do(checkpoint.begin(0, "a"), provider.chat, "a")
            ends.join()

    assert checkpoint.trouble is None
    assert rows(path, "SELECT count(*) FROM chat") == [(1,)]


@pytest.mark.usefixtures("impatient")
def test_a_program_that_keeps_the_file_locked_is_trouble(path):
    provider = Provider()
    with open_checkpoint(path, provider.chat) as checkpoint:
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")

            assert do(checkpoint.begin(0, "a"), provider.chat, "a") == "a #1"

    assert "End the other program that has locked it" in str(checkpoint.trouble)


@pytest.mark.usefixtures("impatient")
def test_a_file_that_is_locked_cannot_be_opened(path):
    run(path, "a", len)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(CheckpointError, match="End the other program"):
            open_checkpoint(path, len)


def test_damage_that_shows_only_later_ends_the_run_before_anything_is_asked_twice(path):
    provider = Provider()
    items = [str(number) * 50 for number in range(400)]
    run(path, items, provider.chat)
    with open_checkpoint(path, provider.chat) as checkpoint:
        with path.open("r+b") as file:
            file.seek(4096 * 2)
            file.write(b"\xff" * (path.stat().st_size - 4096 * 2))
        with pytest.raises(CheckpointError, match="cannot be used any more"):
            for index, item in enumerate(items):
                do(checkpoint.begin(index, item), provider.chat, item)

    assert checkpoint.trouble is not None
    assert len(provider.asked) == 400


def test_a_kill_while_the_file_was_made_leaves_nothing_in_the_way(path):
    code = """
import os, sqlite3, sys
from lionlite.calls.journal import rows
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("PRAGMA cache_spill = 1")
connection.execute("BEGIN IMMEDIATE")
rows.make_tables(connection, "0")
connection.execute("CREATE TABLE big (a)")
connection.executemany("INSERT INTO big VALUES (?)", [("x" * 3000,)] * 200)
os._exit(0)
"""
    assert python(code, path).returncode == 0
    assert {one.name for one in path.parent.iterdir()} == {"run.db", "run.db-journal"}
    assert path.stat().st_size > 100_000
    # A commit writes the first page first, and that says what the file is.
    run(path.with_name("whole.db"), "", len)
    with path.open("r+b") as file:
        file.write(path.with_name("whole.db").read_bytes()[:4096])

    assert run(path, "abc", len) == [1, 1, 1]
    assert rows(path, "SELECT count(*) FROM sqlite_master WHERE name = 'big'") == [(0,)]


def test_a_torn_end_of_the_log_costs_the_last_commit_only(path):
    provider = Provider()
    if os.fork() == 0:
        checkpoint = open_checkpoint(path, provider.chat)
        for index in range(10):
            do(checkpoint.begin(index, index), lambda item: provider.chat(f"{item}"), index)
        os._exit(0)
    os.wait()
    log = path.with_name("run.db-wal")
    os.truncate(log, log.stat().st_size - 100)

    run(path, range(10), lambda item: provider.chat(f"{item}"))

    assert provider.asked == ["9"]


def test_a_place_without_locks_is_said(path, monkeypatch):
    def no_locks(descriptor):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(journal_claim, "_lock", no_locks)

    with pytest.raises(CheckpointError, match=r"cannot be locked.* No locks available\. Put it on"):
        open_checkpoint(path, len)


def test_a_place_without_room_for_a_log_is_said(path, monkeypatch):
    # SQLite says so by leaving the mode as it was; an in-memory file has no log.
    monkeypatch.setattr(
        journal_open, "_connection", lambda *_: sqlite3.connect(":memory:", isolation_level=None)
    )

    with pytest.raises(CheckpointError, match="cannot have a log where it is: put it on a local"):
        open_checkpoint(path, len)


def test_a_failed_opening_leaves_the_file_to_others(path):
    make_text(path)
    with pytest.raises(CheckpointError):
        open_checkpoint(path, len)

    Claim(str(path)).release()


def test_closing_does_not_wait_for_a_commit_that_hangs(path):
    provider = Provider()
    checkpoint = open_checkpoint(path, provider.chat)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN IMMEDIATE")
        record = checkpoint.begin(0, "a")
        thread = threading.Thread(target=do, args=(record, provider.chat, "a"))
        thread.start()
        while not checkpoint._file._lock.locked():
            time.sleep(0.01)
        began_s = time.monotonic()
        checkpoint.close()
        took_s = time.monotonic() - began_s
        other.rollback()
    thread.join()

    assert took_s < 1.5
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        checkpoint._file._connection.execute("SELECT 1")
    assert run(path, "a", provider.chat) == ["a #1"]
