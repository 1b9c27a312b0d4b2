"""A run as something to read: its summary, its repr, its HTML.

Holds: `facts_of`, and how they are laid out. Does not hold: the facts' sources
(outcome.py), or exports (export.py). Everything that came from outside is cut
short, and escaped in HTML. Pure, so safe in any thread.
"""

from __future__ import annotations

import math
from collections import Counter
from html import escape
from typing import TYPE_CHECKING

from lionlite.calls.runs.outcome import cut, short, total_cost, total_usage
from lionlite.calls.verdict import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lionlite.calls.runs.outcome import Outcome, Sheet, Status

FIRST_ROWS = 5
"""How many items a repr and the HTML show."""

MOST_KINDS = 5
"""How many classes of errors a summary names."""

Fact = tuple[str, str]


def facts_of(sheet: Sheet) -> list[Fact]:
    """Return label and text of everything worth knowing about the run."""
    outcomes = list(sheet.places)
    found = [("items", _counts(sheet, outcomes)), ("time", _times(sheet, outcomes))]
    found += _chats(outcomes)
    found += [("failed" if place == 0 else "", text) for place, text in enumerate(_kinds(outcomes))]
    if sheet.is_interrupted:
        found.append(("stopped", "Interrupted by Ctrl-C."))
    if sheet.stopped is not None:
        found.append(("stopped", sheet.stopped))
    if sheet.took_s is not None and _is_unfinished(sheet, outcomes):
        found.append(("go on", _way_on(sheet)))
    return found


def as_text(sheet: Sheet) -> str:
    """Return the facts as text, a line each."""
    lines = [f"{label:<8} {text}" for label, text in facts_of(sheet)]
    return "\n".join([_title(sheet), *lines])


def as_repr(sheet: Sheet) -> str:
    """Return the facts and the first items as text that fits on a screen."""
    rows = [
        f"[{outcome.index}] {short(outcome.input, 30)} -> {said(outcome, 60)}"
        for outcome in sheet.places[:FIRST_ROWS]
    ]
    return "\n".join([as_text(sheet), *rows, *(["..."] if _is_cut(sheet) else [])])


def as_html(sheet: Sheet) -> str:
    """Return the same as HTML, escaped, with no script and no style of its own."""
    facts = "".join(
        f"<tr><th>{escape(label, quote=True)}</th><td>{escape(text, quote=True)}</td></tr>"
        for label, text in facts_of(sheet)
    )
    rows = "".join(_html_row(outcome) for outcome in sheet.places[:FIRST_ROWS])
    head = "<tr><th></th><th>input</th><th>value or error</th><th>time</th></tr>"
    more = "<p>...</p>" if _is_cut(sheet) else ""
    return (
        f"<div><p><b>{escape(_title(sheet), quote=True)}</b></p><table>{facts}</table>"
        f"<table>{head}{rows}</table>{more}</div>"
    )


def said(outcome: Outcome, width: int) -> str:
    """Return what became of an item, in at most about *width* characters."""
    if outcome.error is not None:
        return cut(describe(outcome.error), width)
    return short(outcome.value, width) if outcome.is_ok else f"({outcome.status})"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that *share* of the sorted *values* do not exceed (nearest rank)."""
    return values[max(0, math.ceil(share * len(values)) - 1)]


def seconds(value_s: float) -> str:
    """Return *value_s* as text, in milliseconds if it is short."""
    return f"{value_s:.3g} s" if value_s >= 1 else f"{value_s * 1000:.3g} ms"


def dollars(cost: float) -> str:
    """Return *cost* as text, with digits enough to tell small ones apart."""
    return f"${cost:,.2f}" if cost >= 1 else f"${cost:.3g}"


def _title(sheet: Sheet) -> str:
    return f"Run of {sheet.name}{', going on' if sheet.took_s is None else ''}"


def _counts(sheet: Sheet, outcomes: Sequence[Outcome]) -> str:
    counts = Counter(outcome.status for outcome in outcomes)
    kinds: tuple[Status, ...] = ("ok", "failed", "skipped", "unfinished")
    parts = [f"{counts[kind]:,} {kind}" for kind in kinds if counts[kind] or kind == "ok"]
    unread = (sheet.total or 0) - len(outcomes)
    if unread > 0:
        parts.append(f"{unread:,} not read")
    return f"{len(outcomes):,}: {', '.join(parts)}"


def _times(sheet: Sheet, outcomes: Sequence[Outcome]) -> str:
    took = "" if sheet.took_s is None else f"{sheet.took_s:.1f} s in all"
    ran = sorted(outcome.elapsed_s for outcome in outcomes if outcome.elapsed_s > 0)
    if not ran:
        return took or "nothing ended yet"
    middle, late = percentile(ran, 0.5), percentile(ran, 0.95)
    return f"{took}; an item {seconds(middle)} (p50), {seconds(late)} (p95)".removeprefix("; ")


def _chats(outcomes: Sequence[Outcome]) -> list[Fact]:
    chats = [outcome.chats for outcome in outcomes if outcome.chats.count]
    if not chats:
        return []
    replayed = sum(one.replayed for one in chats)
    parts = [
        f"{sum(one.count for one in chats):,}",
        *([f"{replayed:,} answered from the checkpoint"] if replayed else []),
        f"{sum(one.attempts for one in chats):,} attempts",
        f"waited {sum(one.waited_s for one in chats):.1f} s for the budget",
    ]
    found = [("chats", "; ".join(parts))]
    usage = total_usage(one.usage for one in chats)
    if usage is not None:
        came = f"{usage.input_tokens:,} in ({usage.cached_tokens:,} cached)"
        went = f"{usage.output_tokens:,} out ({usage.reasoning_tokens:,} reasoning)"
        found.append(("tokens", f"{came}, {went}"))
    cost = total_cost(one.cost for one in chats)
    return found if cost is None else [*found, ("cost", dollars(cost))]


def _kinds(outcomes: Sequence[Outcome]) -> list[str]:
    """Return a line for each class of errors, the most frequent first."""
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    counts = Counter(type(outcome.error).__name__ for outcome in failed)
    first: dict[str, Outcome] = {}
    for outcome in failed:
        first.setdefault(type(outcome.error).__name__, outcome)
    lines = [
        f"{count:,} {kind}, first at index {first[kind].index}: "
        + said(first[kind], 160).removeprefix(f"{kind}: ")
        for kind, count in counts.most_common(MOST_KINDS)
    ]
    left = len(counts) - MOST_KINDS
    return [*lines, f"and {left} other classes"] if left > 0 else lines


def _is_unfinished(sheet: Sheet, outcomes: Sequence[Outcome]) -> bool:
    is_unread = sheet.is_interrupted or sheet.stopped is not None
    return is_unread or any(outcome.is_unfinished or outcome.is_failed for outcome in outcomes)


def _way_on(sheet: Sheet) -> str:
    again = ".retry_failed() runs what is failed or unfinished"
    if sheet.checkpoint is None:
        return f"{again}."
    return f"{again}; later: run(items, {sheet.name}, checkpoint={sheet.checkpoint!r})."


def _is_cut(sheet: Sheet) -> bool:
    return len(sheet.places) > FIRST_ROWS


def _html_row(outcome: Outcome) -> str:
    cells = (
        str(outcome.index),
        short(outcome.input, 80),
        said(outcome, 160),
        seconds(outcome.elapsed_s),
    )
    inside = "".join(f"<td>{escape(cell, quote=True)}</td>" for cell in cells)
    return f"<tr>{inside}</tr>"
