"""The guide's job, end to end: calculator sessions in threads under one budget.

Holds: the workflow, its plain-arithmetic check, the run and its table. Does
not hold: the command line (cli.py). The provider is a child process, so that
its log is a judge of its own; `live` runs talk to a real one.
"""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, build_opener

import attrs

from lionlite import jsontext
from lionlite.calls.family import alcall
from lionlite.conversation.session import Session
from lionlite.exceptions import LionError
from lionlite.service.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lionlite.service.service import Service
    from lionlite.service.totals import Stats

SYSTEM = "You are asked to perform as a calculator. Return only a numeric value."
SUM = "sum the absolute values"
DIFF = "diff the absolute values"
BUILD_ON = {"if positive": "times 2", "else": "plus 2"}

START_S = 30.0
"""How long the provider's process may take to say that it listens."""

REPORT_S = 10.0


@attrs.frozen
class Settings:
    """What a demo run is like; times in seconds, limits per *interval_s*."""

    contexts: int = 450
    max_requests: int = 300
    max_tokens: int = 60_000
    interval_s: float = 10.0
    latency_s: float = 0.05
    workers: int = 64
    is_quiet: bool = False


@attrs.frozen
class Outcome:
    """What a demo run showed.

    Attributes:
        rows: Label and value of each line of the table.
        problems: What went wrong, in words; empty when all is well.
    """

    rows: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]

    def table(self) -> str:
        """Return the rows as text, a line each."""
        width = max(len(label) for label, _ in self.rows)
        lines = [f"{label:<{width}}  {value}" for label, value in self.rows]
        return "\n".join([*lines, *(f"PROBLEM: {problem}" for problem in self.problems)])


def make_contexts(count: int) -> list[dict[str, Any]]:
    """Return *count* contexts of two numbers each, numpy's where it is installed."""
    rng = random.Random(7)  # noqa: S311 - an example, not a secret
    pairs = [(round(rng.uniform(-9, 9), 2), round(rng.uniform(-9, 9), 2)) for _ in range(count)]
    if importlib.util.find_spec("numpy") is None:
        return [{"x": x, "y": y} for x, y in pairs]
    import numpy as np  # noqa: PLC0415 - optional

    return [dict(zip("xy", np.array(pair), strict=True)) for pair in pairs]


def instruction_for(context: dict[str, Any]) -> str:
    """Return which of the two calculations *context* asks for."""
    return SUM if context["x"] >= context["y"] else DIFF


def expected(context: dict[str, Any]) -> tuple[float, float]:
    """Return what plain arithmetic says the two answers are."""
    x, y = abs(float(context["x"])), abs(float(context["y"]))
    first = x + y if instruction_for(context) == SUM else x - y
    return first, first * 2 if first > 0 else first + 2


def is_right(context: dict[str, Any], answers: tuple[str, str]) -> bool:
    """Whether *answers* are the numbers that arithmetic gives."""
    try:
        numbers = [float(answer) for answer in answers]
    except ValueError:
        return False
    pairs = zip(numbers, expected(context), strict=True)
    return all(abs(number - right) <= 1e-9 * max(1.0, abs(right)) for number, right in pairs)


def run_local(settings: Settings) -> Outcome:
    """Run the demo against a provider of our own, in a child process.

    Raises:
        CallError: Chats failed; everything finished is in it.
        LionError: The provider did not start.
    """
    with child_provider(settings) as base_url:
        service = Services.Compatible(
            base_url=base_url,
            model="calculator",
            token_encoding_name="estimate",  # noqa: S106 - no password
            max_requests=settings.max_requests,
            max_tokens=settings.max_tokens,
            interval=settings.interval_s,
        )
        wall_s, wrong, stats = _run(service, settings)
        report = _report_of(base_url)
    return _judged(settings, wall_s=wall_s, wrong=wrong, stats=stats, report=report)


def run_live(service: Service, settings: Settings) -> Outcome:
    """Run the demo against the real provider behind *service*.

    Raises:
        CallError: Chats failed; everything finished is in it.
    """
    wall_s, wrong, stats = _run(service, settings)
    return _judged(settings, wall_s=wall_s, wrong=wrong, stats=stats, report=None)


def _run(service: Service, settings: Settings) -> tuple[float, int, Stats]:
    """Return wall seconds, wrong answers, and what the service did."""

    def workflow(context: dict[str, Any]) -> tuple[str, str]:
        calculator = Session(SYSTEM, service=service, llmconfig={"max_tokens": 20})
        first = calculator.chat(instruction_for(context), context=context)
        return first, calculator.chat(BUILD_ON)

    contexts = make_contexts(settings.contexts)
    with service:
        began_s = time.monotonic()
        answers = alcall(
            contexts, workflow, max_workers=settings.workers, progress=not settings.is_quiet
        )
        wall_s = time.monotonic() - began_s
        stats = service.stats()
    pairs = zip(contexts, answers, strict=True)
    return wall_s, sum(not is_right(context, pair) for context, pair in pairs), stats


def _judged(
    settings: Settings, *, wall_s: float, wrong: int, stats: Stats, report: dict[str, Any] | None
) -> Outcome:
    rows = [
        ("contexts", f"{settings.contexts:,}"),
        ("calls", f"{stats.calls:,}"),
        ("tokens", f"{stats.usage.total_tokens:,}"),
        ("wall time", f"{wall_s:.2f} s"),
        ("one by one", f"{stats.elapsed_s - stats.waited_s:.1f} s (sum of all calls, no waiting)"),
        ("wrong answers", f"{wrong:,}"),
        ("429s", f"{stats.rate_limited:,}"),
        ("retries", f"{stats.retries:,}"),
    ]
    problems = [f"{wrong:,} answers are wrong"] if wrong else []
    if report is not None:
        rows += _rows_of(report, settings, wall_s)
        problems += _problems_of(report)
    return Outcome(tuple(rows), tuple(problems))


def _rows_of(
    report: dict[str, Any], settings: Settings, wall_s: float
) -> list[tuple[str, str]]:
    least_s = least_wall_s(settings)
    times = f" (took {wall_s / least_s:.3f} x)" if least_s else ""
    return [
        ("least time the limit allows", f"{least_s:.2f} s{times}"),
        ("share of the budget used", _share_of(report, settings)),
        (
            f"most requests in any {settings.interval_s:g} s",
            f"{report['highest_requests_in_window']:,} of {settings.max_requests:,} allowed",
        ),
        (
            f"most tokens in any {settings.interval_s:g} s",
            f"{report['highest_tokens_in_window']:,} of {settings.max_tokens:,} allowed",
        ),
    ]


def _share_of(report: dict[str, Any], settings: Settings) -> str:
    """Return how much of the limit was used after the first windowful, in words."""
    beyond_first = report["accepted"] - settings.max_requests
    if beyond_first <= 0:
        return "the limit was never reached"
    windows = (report["last_s"] - report["first_s"]) / settings.interval_s
    return f"{beyond_first / (settings.max_requests * windows):.1%}"


def _problems_of(report: dict[str, Any]) -> list[str]:
    problems = []
    if report["refused_429"]:
        problems.append(f"the provider refused {report['refused_429']:,} requests")
    for name in ("requests", "tokens"):
        highest, allowed = report[f"highest_{name}_in_window"], report[f"max_{name}"]
        if allowed is not None and highest > allowed:
            problems.append(f"{highest:,} {name} in one window exceed the limit of {allowed:,}")
    return problems


def least_wall_s(settings: Settings) -> float:
    """Return the least seconds that the request limit allows the run to take."""
    calls = 2 * settings.contexts
    full_windows = -(-calls // settings.max_requests) - 1
    return full_windows * settings.interval_s + 2 * settings.latency_s


@contextmanager
def child_provider(settings: Settings) -> Iterator[str]:
    """Run the calculator provider as a child process; yield its base_url.

    The child ends when its standard input closes, so it does not outlive us.

    Raises:
        LionError: It did not say that it listens.
    """
    command = [
        *(sys.executable, "-m", "lionlite", "serve", "--until-stdin-closes"),
        *("--max-requests", str(settings.max_requests)),
        *("--max-tokens", str(settings.max_tokens)),
        *("--interval", str(settings.interval_s), "--latency", str(settings.latency_s)),
    ]
    process = subprocess.Popen(  # noqa: S603 - ourselves
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        # A child that hangs must not hang us: end it, and its line is empty.
        timer = threading.Timer(START_S, process.kill)
        timer.start()
        line = process.stdout.readline().strip() if process.stdout else ""
        timer.cancel()
        if not line.startswith("http://"):
            msg = "The demo's provider did not start: see the message above."
            raise LionError(msg)
        try:
            yield line
        finally:
            if process.stdin is not None:
                process.stdin.close()


def _report_of(base_url: str) -> dict[str, Any]:
    """Return what the child's own log says."""
    address = base_url.removesuffix("/v1") + "/report"
    # Without proxies: it is on this machine.
    with build_opener(ProxyHandler({})).open(address, timeout=REPORT_S) as answer:
        report: dict[str, Any] = jsontext.decode(answer.read())
    return report
