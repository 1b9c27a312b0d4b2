"""When `keep` returns, it is on file; many threads share a commit; a mistake stays its own."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from checkpoint_tools import Provider, do, rows, run

from lionlite.calls.journal.checkpoint import open_checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.db"


@pytest.mark.parametrize("durability", ["process", "power"])
def test_what_was_kept_is_there_for_every_other_connection_at_once(path, durability):
    missing = []

    def chat_and_look(index):
        with closing(sqlite3.connect(path)) as other:
            for number in range(10):
                memory = records[index].chat(b"%d" % number)
                memory.keep(b"reply %d %d" % (index, number))
                sql = "SELECT count(*) FROM chat WHERE reply = ?"
                if other.execute(sql, (f"reply {index} {number}",)).fetchone() != (1,):
                    missing.append((index, number))

    with open_checkpoint(path, len, durability=durability) as checkpoint:
        records = [checkpoint.begin(index, index) for index in range(16)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(chat_and_look, range(16)))

    assert missing == []
    assert checkpoint.trouble is None
    assert rows(path, "SELECT count(*) FROM chat") == [(160,)]


@pytest.mark.parametrize(("durability", "mode"), [("process", 1), ("power", 2)])
def test_durability_decides_whether_a_commit_waits_for_the_disk(path, durability, mode):
    with open_checkpoint(path, len, durability=durability) as checkpoint:
        connection = checkpoint._file._connection

        assert connection.execute("PRAGMA synchronous").fetchone() == (mode,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_threads_that_come_during_a_commit_share_the_next_one(path):
    commits = []
    with open_checkpoint(path, len, durability="power") as checkpoint:
        file = checkpoint._file
        file._connection.set_trace_callback(lambda sql: sql == "COMMIT" and commits.append(sql))
        with file._lock:
            records = [checkpoint.begin(index, index) for index in range(32)]
            with ThreadPoolExecutor(32) as pool:
                jobs = [pool.submit(record.chat(b"a").keep, b"reply") for record in records]
                while len(file._waiting) < 32:
                    time.sleep(0.01)
                file._lock.release()
                for job in jobs:
                    job.result()
                file._lock.acquire()
        file._connection.set_trace_callback(None)

    assert len(commits) == 1
    assert rows(path, "SELECT count(*) FROM chat") == [(32,)]


def test_a_commit_that_fails_wakes_all_who_waited_for_it(path):
    with open_checkpoint(path, len) as checkpoint:
        file = checkpoint._file
        records = [checkpoint.begin(index, index) for index in range(16)]
        file._connection.execute("DROP TABLE chat")
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda record: record.chat(b"a").keep(b"reply"), records))

    assert "no such table: chat" in str(checkpoint.trouble)
    assert checkpoint.trouble.__cause__.__traceback__ is None


def test_ctrl_c_in_a_commit_ends_the_file_and_not_its_rows(path):
    def interrupted(connection):
        raise KeyboardInterrupt

    provider = Provider()
    with open_checkpoint(path, provider.chat) as checkpoint:
        do(checkpoint.begin(0, "a"), provider.chat, "a")
        with pytest.raises(KeyboardInterrupt):
            checkpoint._file.write(interrupted)
        do(checkpoint.begin(1, "b"), provider.chat, "b")

    assert "interrupted" in str(checkpoint.trouble)
    assert rows(path, "SELECT key FROM item") == [('"a"',)]
    assert run(path, "ab", provider.chat) == ["a #1", "b #3"]


def test_many_items_in_many_threads_come_back_as_they_were(path):
    provider = Provider()
    items = [{"number": number, "text": "x" * (number % 50)} for number in range(300)]

    def workflow(item):
        first = provider.chat(f"first {item['number'] // 2}")
        return [first, provider.chat(f"second {first}"), provider.chat("the same for all")]

    def mapped():
        with open_checkpoint(path, workflow) as checkpoint:
            records = [checkpoint.begin(index, item) for index, item in enumerate(items)]
            order = random.Random(1).sample(range(300), 300)
            values = {}
            with ThreadPoolExecutor(32) as pool:
                jobs = {
                    index: pool.submit(do, records[index], workflow, items[index])
                    for index in order
                }
            values = [jobs[index].result() for index in range(300)]
        assert checkpoint.trouble is None
        return values

    first = mapped()

    assert mapped() == first
    assert len(provider.asked) == 900


def test_ends_that_need_no_commit_of_their_own_do_not_pile_up(path):
    provider = Provider()
    run(path, range(1000), lambda item: provider.chat(str(item)))
    waiting = []

    def look(item):
        waiting.append(len(checkpoint._file._waiting))
        return provider.chat(str(item))

    with open_checkpoint(path, look) as checkpoint:
        for item in range(1000):
            do(checkpoint.begin(item, item), look, item)

    assert len(provider.asked) == 1000
    assert max(waiting) <= 100
    assert rows(path, "SELECT count(*) FROM outcome WHERE run = 2") == [(1000,)]


def test_threads_that_are_still_there_at_the_end_are_not_stuck(path):
    provider = Provider()
    checkpoint = open_checkpoint(path, provider.chat)
    records = [checkpoint.begin(index, index) for index in range(16)]
    stop = threading.Event()

    def work(record):
        number = 0
        while not stop.is_set():
            record.chat(b"%d" % number).keep(b"reply")
            number += 1

    threads = [threading.Thread(target=work, args=(record,)) for record in records]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    checkpoint.close()
    stop.set()
    for thread in threads:
        thread.join(5)

    assert not any(thread.is_alive() for thread in threads)
    assert rows(path, "SELECT count(*) > 0, count(DISTINCT id) = count(*) FROM chat") == [(1, 1)]
    assert rows(path, "SELECT ended IS NOT NULL FROM run") == [(1,)]
