"""What a checkpoint costs. Run: python -m benchmarks.checkpoint

Prints, in one run: the microseconds that one chat's commit takes at one thread, beside the bare
SQLite statements that it stands for; and the wall time of a job of 200 ms calls at 64 threads,
with a checkpoint and without, against a provider in a process of its own.
"""

from __future__ import annotations

import argparse
import functools
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import lionlite as ll
from lionlite.calls.journal.checkpoint import open_checkpoint

SERVER = Path(__file__).with_name("cheap_server.py")
REPLY_BYTES = 1500


def as_kept():
    body = {"id": "chatcmpl-1", "choices": [{"message": {"role": "assistant", "content": ""}}]}
    body["choices"][0]["message"]["content"] = "word " * ((REPLY_BYTES - 150) // 5)
    return json.dumps({"body": body, "request_id": "req_1", "attempts": 1}).encode()


def by_checkpoint(folder, chats, durability):
    """Return the seconds of each chat: looked up, named, kept."""
    reply, took_s = as_kept(), []
    with open_checkpoint(folder / f"{durability}.db", len, durability=durability) as checkpoint:
        for index in range(chats // 2):
            record = checkpoint.begin(index, {"row": index, "text": "some text " * 20})
            for number in range(2):
                request = sha256(b"%d %d" % (index, number)).digest()
                began_s = time.perf_counter()
                memory = record.work.chat(request)
                memory.keep(reply if memory.name else b"")
                took_s.append(time.perf_counter() - began_s)
        assert checkpoint.trouble is None
    return took_s


def by_hand(folder, chats):
    """Return the seconds of the least that SQLite itself needs: one row, one commit."""
    reply, took_s = as_kept().decode(), []
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE chat (id INTEGER PRIMARY KEY, request TEXT, reply TEXT)")
    for number in range(chats):
        began_s = time.perf_counter()
        connection.execute("INSERT INTO chat VALUES (?, ?, ?)", (number, "f" * 64, reply))
        took_s.append(time.perf_counter() - began_s)
    connection.close()
    return took_s


def print_chats(folder, runs, chats):
    seen = {"bare SQLite": [], 'durability="process"': [], 'durability="power"': []}
    for number in range(runs):
        place = folder / str(number)
        place.mkdir()
        seen["bare SQLite"] += by_hand(place, chats)
        seen['durability="process"'] += by_checkpoint(place, chats, "process")
        seen['durability="power"'] += by_checkpoint(place, chats // 10, "power")
    for name, took_s in seen.items():
        low, middle, high = statistics.quantiles([one * 1e6 for one in took_s], n=4)
        mean = statistics.fmean(took_s) * 1e6
        spread = f"(quartiles {low:.0f}, {high:.0f}; mean {mean:.0f})"
        print(f"a chat, {name:22} {middle:>7.0f} us   {spread}")


def job_s(base_url, folder, items, checkpoint):
    """Return how long the job took, and check it."""
    service = ll.Services.Compatible(
        base_url=base_url, api_key="k", model="m", max_requests=None, max_tokens=None
    )
    session = ll.Session("Be short.", service=service)
    ask = functools.partial(session.chat, remember=False)
    options = {"checkpoint": folder / f"{time.monotonic_ns()}.db"} if checkpoint else {}
    with service:
        began_s = time.perf_counter()
        answers = ll.lcall(
            [f"item {number}" for number in range(items)], ask, max_workers=64, **options
        )
        took_s = time.perf_counter() - began_s
    assert all(answers)
    return took_s


def print_job(folder, runs, items, latency_ms):
    server = subprocess.Popen(
        [sys.executable, str(SERVER), json.dumps({"certificate": None, "key": None})],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with server:
        base_url = f"http://127.0.0.1:{int(server.stdout.readline())}/{latency_ms}/v1"
        job_s(base_url, folder, 64, False)
        seen = {False: [], True: []}
        for _ in range(runs):
            for checkpoint, took_s in seen.items():
                took_s.append(job_s(base_url, folder, items, checkpoint))
        server.stdin.close()
    bare, kept = (statistics.median(seen[checkpoint]) for checkpoint in (False, True))
    least = items * latency_ms / 1000 / 64
    print(f"{items} calls of {latency_ms} ms, 64 threads: at least {least:.2f} s by latency alone")
    print(f"  without checkpoint {bare:.2f} s, with {kept:.2f} s: {kept / bare - 1:+.1%}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--chats", type=int, default=2000)
    parser.add_argument("--items", type=int, default=1280)
    parser.add_argument("--latency-ms", type=int, default=200)
    parser.add_argument("--folder", help="where the files go: a disk, not a tmpfs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder or Path.cwd()) as folder:
        print_chats(Path(folder), options.runs, options.chats)
        print_job(Path(folder), options.runs, options.items, options.latency_ms)


if __name__ == "__main__":
    main()
