"""Kill a job again and again, and judge by the provider's log what was lost."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import attrs

from lionlite.calls.journal.opening import connect_reading
from lionlite.testing import FakeProvider

JOB = Path(__file__).with_name("killed_job.py")
ROOT = Path(__file__).resolve().parents[2]

CHATS_PER_ITEM = 4
WORKERS = 8
IN_FLIGHT = 2 * WORKERS
"""Threads of the job that may chat at once: an item's last two chats have one each."""

LATENCY_S = 0.03
MOMENTS = [None, "before", None, "inside", None, "after"]
"""None = at a random instant; else around the commit of a random chat, by the job itself."""


@attrs.frozen
class Verdict:
    """What came of a job that was killed.

    Attributes:
        kills: How often it was.
        asked: How many requests the provider saw.
        chats: How many there had to be.
        lost: Prompts that were asked for after their chat had returned.
        missing: How many chats the file lacked after the last kill.
        last_asked: How many requests the last run made.
        table: Of the last run.
    """

    kills: int
    asked: int
    chats: int
    lost: list
    missing: int
    last_asked: int
    table: list


def answer(request):
    """Return the same text for the same messages, in every process."""
    text = json.dumps(request["messages"]).encode()
    return hashlib.sha256(text).hexdigest()[:12]


def killed_until_done(folder, kills, *, seed, durability="process"):
    """Run the job, kill it *kills* times, let it end, and return the verdict."""
    rng = random.Random(seed)
    items = 6 * kills + 20
    with FakeProvider(answer, latency_s=LATENCY_S) as provider:
        options = {
            "path": str(folder / "run.db"),
            "notes": str(folder / "notes"),
            "base_url": provider.base_url,
            "items": items,
            "workers": WORKERS,
            "durability": durability,
        }
        for number in range(kills):
            kill_once(options, provider, MOMENTS[number % len(MOMENTS)], rng)
        kept, asked_before = chats_in(folder / "run.db"), len(provider.requests)
        with job(options) as process:
            out, _ = process.communicate(timeout=120)
        prompts = [
            (request.body["messages"][-1]["content"], request.arrival_s)
            for request in provider.requests
        ]
    return Verdict(
        kills=kills,
        asked=len(prompts),
        chats=items * CHATS_PER_ITEM,
        lost=asked_after_the_end(prompts, folder / "notes"),
        missing=items * CHATS_PER_ITEM - kept,
        last_asked=len(prompts) - asked_before,
        table=json.loads(out.splitlines()[-1]),
    )


def kill_once(options, provider, moment, rng):
    """Start the job and see it killed, a few chats further than it was."""
    further = rng.randint(1, 3 * WORKERS)
    more = {} if moment is None else {"dies": moment, "count": further}
    before = len(provider.requests)
    with job({**options, **more}) as process:
        if moment is None:
            assert provider.wait_for(before + further, 60)
            time.sleep(rng.uniform(0, 1.5 * LATENCY_S))
            process.send_signal(signal.SIGKILL)
        assert process.wait(timeout=60) == -signal.SIGKILL


def job(options):
    process = subprocess.Popen(
        [sys.executable, str(JOB), json.dumps(options)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def unbroken(folder, items):
    """Return the table of the job when nobody kills it."""
    with FakeProvider(answer) as provider:
        options = {
            "path": str(folder / "unbroken.db"),
            "notes": str(folder / "unbroken-notes"),
            "base_url": provider.base_url,
            "items": items,
            "workers": WORKERS,
            "durability": "process",
        }
        with job(options) as process:
            out, _ = process.communicate(timeout=120)
    return json.loads(out.splitlines()[-1])


def chats_in(path):
    """Return how many chats the file holds, without repairing what the kill left."""
    with closing(connect_reading(str(path))) as connection:
        return connection.execute("SELECT count(*) FROM chat").fetchone()[0]


def asked_after_the_end(prompts, notes):
    """Return the prompts whose request arrived after their chat had returned."""
    ended = {}
    for line in notes.read_text().splitlines():
        prompt, at_s = json.loads(line)
        ended.setdefault(prompt, at_s)
    return [prompt for prompt, arrival_s in prompts if arrival_s > ended.get(prompt, arrival_s)]


def judge(folder, kills, **options):
    """Kill, and assert everything that the checkpoint promises."""
    verdict = killed_until_done(folder, kills, **options)
    repeats = verdict.asked - verdict.chats
    print(
        f"{kills} kills: {verdict.chats} chats, {verdict.asked} requests, {repeats} repeats "
        f"({repeats / kills:.1f} per kill, {IN_FLIGHT} may be in flight), {len(verdict.lost)} lost"
    )
    assert verdict.lost == []
    assert verdict.last_asked == verdict.missing
    assert 0 <= repeats <= IN_FLIGHT * kills
    assert verdict.table == unbroken(folder, verdict.chats // CHATS_PER_ITEM)
