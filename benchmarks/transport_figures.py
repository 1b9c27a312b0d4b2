"""The figures of benchmarks/transport.py: kept by round, said as medians, held against targets."""

from __future__ import annotations

import statistics
from collections import Counter

FAULTS = ("no reply", "half a reply", "no handshake")
OURS, BARE = "lionlite", "bare socket"


class Figures:
    """What was seen, by (scheme, row, client): one dict a round, in order."""

    def __init__(self):
        self.seen = {}

    def add(self, place, result):
        self.seen.setdefault(place, []).append(result)

    def values(self, place, key):
        return [result[key] for result in self.seen.get(place, []) if key in result]

    def median(self, place, key):
        """Return the median over the rounds, None if there is none."""
        values = self.values(place, key)
        return statistics.median(values) if values else None

    def ratio(self, place, base, key="cpu_us"):
        """Return the median of the ratios within each round to the client *base*, None likewise."""
        others = self.seen.get((*place[:2], base), [])
        pairs = zip(self.seen.get(place, []), others, strict=False)
        ratios = [one[key] / other[key] for one, other in pairs if key in one and key in other]
        return statistics.median(ratios) if ratios else None

    def errors(self, place):
        found = Counter()
        for errors in self.values(place, "errors"):
            found.update(errors)
        return dict(found)

    def said(self, place, key, form):
        value = self.median(place, key)
        return "-" if value is None else form.format(value)


def remark_on(result, threads=1):
    """Return why *result* is not a whole one, "" if it is."""
    for word in ("missing", "cut", "failed"):
        if word in result:
            return result[word] if word == "missing" else f"{word}: {result[word]}"
    if result.get("warm", threads) < threads:
        return f"cut: {result['warm']:,} of {threads:,} threads were answered once in 20 s"
    return "cut: its calls do not end" if result.get("is_stuck") else ""


CALLS_HEAD = (
    f"{'client':<18}{'us CPU':>9}{'x ours':>9}{'calls/s':>9}{'kept':>8}{'p99 ms':>10}  errors"
)


def calls_line(figures, place, remark):
    ratio = figures.ratio(place, OURS)
    kept = figures.median(place, "share")
    return (
        f"{place[2]:<18}{figures.said(place, 'cpu_us', '{:,.0f}'):>9}"
        f"{'-' if ratio is None else f'{ratio:.2f}':>9}"
        f"{figures.said(place, 'per_s', '{:,.0f}'):>9}"
        f"{f'{kept:.1%}' if kept else '-':>8}{figures.said(place, 'p99_ms', '{:+,.1f}'):>10}"
        f"  {figures.errors(place) or 0}{'  ' if remark else ''}{remark}"
    )


STREAM_HEAD = (
    f"{'client':<18}{'us CPU a piece':>15}{'first text after, ms':>22}{'p99':>7}"
    f"{'any text after, ms':>20}"
)


def stream_line(figures, place, *, is_timed):
    delays = [
        figures.said(place, key, "{:.2f}") if is_timed else "-"
        for key in ("first_ms", "first_p99_ms", "piece_ms")
    ]
    return (
        f"{place[2]:<18}{figures.said(place, 'cpu_us', '{:.1f}'):>15}{delays[0]:>22}"
        f"{delays[1]:>7}{delays[2]:>20}  {remark_on(figures.seen[place][0])}"
    )


def ends_line(scheme, fault, result):
    if "p99_ms" not in result:
        return f"{scheme}, {fault:<14}{remark_on(result)}"
    return (
        f"{scheme}, {fault:<14}{result['calls']:>6,} calls ended after their deadline by "
        f"{result['p50_ms']:.1f} ms, p99 {result['p99_ms']:.1f}, at most "
        f"{result['most_ms']:.1f}; {result['ends']}"
    )


# What must be reached ---------------------------------------------------------------------


def targets(figures, scheme):
    """Return (what, value, bound, whether the bound is the least, form) for each target."""

    def ratio(row, one, other):
        return figures.ratio((scheme, row, one), other)

    def ours(row, key):
        return figures.median((scheme, row, OURS), key)

    return [
        ("CPU, 1 thread: lionlite / httpx", ratio("1@0", OURS, "httpx"), 0.25, False, "{:.3f}"),
        ("CPU, 1 thread: openai / lionlite", ratio("1@0", "openai", OURS), 10, True, "{:.1f}"),
        ("CPU, 1 thread: litellm / lionlite", ratio("1@0", "litellm", OURS), 20, True, "{:.1f}"),
        ("CPU, 32 threads: lionlite / httpx", ratio("32@0", OURS, "httpx"), 0.2, False, "{:.3f}"),
        ("256 threads at 200 ms, kept", ours("256@200", "share"), 0.98, True, "{:.1%}"),
        ("1,000 threads at 1 s, kept", ours("1000@1000", "share"), 0.98, True, "{:.1%}"),
        ("2,000 threads at 1 s, kept", ours("2000@1000", "share"), 0.95, True, "{:.1%}"),
        ("a stream's first text, ms", ours("one by one", "first_ms"), 1.0, False, "{:.2f}"),
        ("a stream's piece, us CPU", ours("together", "cpu_us"), 10.0, False, "{:.1f}"),
        *(
            (
                f"{fault}, end after the deadline, p99 ms",
                figures.median((scheme, "ends", fault), "p99_ms"),
                50.0,
                False,
                "{:.1f}",
            )
            for fault in FAULTS
        ),
    ]


def verdict(figures, schemes):
    """Return the lines that say which targets this run could judge, and whether they are met."""
    lines = [f"{'must reach':<55}" + "".join(f"{scheme:>16}" for scheme in schemes)]
    for judged in zip(*(targets(figures, scheme) for scheme in schemes), strict=True):
        if any(value is not None for _, value, *_ in judged):
            what, _, bound, is_least, form = judged[0]
            sign = ">=" if is_least else "<="
            cells = "".join(f"{_cell(*one):>16}" for one in judged)
            lines.append(f"{f'{what} {sign} {form.format(bound)}':<55}{cells}")
    failed = {
        f"{scheme} {row}": figures.errors((scheme, row, name))
        for scheme, row, name in figures.seen
        if name == OURS and figures.errors((scheme, row, name))
    }
    return [*lines, f"{'errors of lionlite in all rows 0':<55}{failed or '0 yes'!s:>16}"]


def _cell(_what, value, bound, is_least, form):
    if value is None:
        return "-"
    is_met = value >= bound if is_least else value <= bound
    return form.format(value) + (" yes" if is_met else " NO ")
