"""Playing a fault against a real service, and looking for the key in all that it shows."""

from __future__ import annotations

import base64
import contextlib
import pickle
import time
import traceback
import uuid
from pathlib import Path
from urllib.parse import quote, quote_plus

import attrs

import lionlite as ll
from lionlite.testing import FaultServer

HERE = str(Path(__file__).parent)

CANARY = f"sk-CANARY/{uuid.uuid4()}+x"
_BASE64 = base64.b64encode(CANARY.encode()).decode().rstrip("=")
FORMS = {
    "plain": CANARY,
    "name": "CANARY",
    "base64": _BASE64,
    # Base64 of something longer with the key inside, at the three offsets.
    "base64 inside 1": base64.b64encode(b"x" + CANARY.encode()).decode()[4:-4],
    "base64 inside 2": base64.b64encode(b"xx" + CANARY.encode()).decode()[4:-4],
    "url": quote(CANARY, safe=""),
    "form": quote_plus(CANARY),
    "json": CANARY.replace("/", "\\/"),
    "hex": CANARY.encode().hex(),
}


def found_in(text):
    """Return the forms of the canary that *text* shows."""
    return [name for name, form in FORMS.items() if form in text]


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def deep_text(value, depth=7):
    """Return the reprs of *value* and of all it holds, as a debugger would show them."""
    if depth == 0 or isinstance(value, (str, bytes, int, float, type(None))):
        return repr(value)
    held = []
    with contextlib.suppress(TypeError):
        held += vars(value).values()
    for slot in getattr(type(value), "__slots__", ()):
        held.append(getattr(value, slot, None))
    if isinstance(value, dict):
        held += [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        held += value
    return f"{value!r} {value!s}" + "".join(deep_text(item, depth - 1) for item in held)


def chain_of(error):
    """Return *error* and all errors behind it, and in it."""
    errors, seen = [error], []
    while errors:
        one = errors.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        errors += [one.__cause__, one.__context__, *getattr(one, "failed", {}).values()]
    return seen


def traced(error):
    """Return the tracebacks with all locals of all frames but the tests' own."""
    text = []
    for one in chain_of(error):
        whole = traceback.TracebackException.from_exception(one, capture_locals=True)
        text += [
            f"{frame.filename} {frame.name} {frame.locals}"
            for frame in whole.stack
            if not frame.filename.startswith(HERE)
        ]
        text += [*whole.format_exception_only(), repr(getattr(one, "__notes__", ""))]
    return "\n".join(text)


def shown_by(error):
    """Return everything that an error shows of itself."""
    return "".join(
        f"{one} {one!r} {deep_text(one, 4)} {pickle.dumps(one)!r}" for one in chain_of(error)
    ) + traced(error)


@attrs.frozen(kw_only=True)
class Played:
    """What came of one call against one fault.

    Attributes:
        text: The answer, None if it failed.
        error: What it failed with; through `lcall`, the item's error.
        elapsed_s: How long it took.
        requests: How many requests the server saw.
        in_flight: Calls that still hold a permit or wait for one.
        paused_s: How long the budget still pauses.
        next_text: The answer to the next call, against a healthy server.
        left_open: Connections that were still open once the service was closed.
        shown: All that errors, replies, service and session show of themselves.
    """

    text: str | None
    error: BaseException | None
    elapsed_s: float
    requests: int
    in_flight: int
    paused_s: float
    next_text: str
    left_open: int
    shown: str


def ask(verb, session):
    """Return the whole answer to one question, asked in one of three ways."""
    if verb == "chat":
        return session.chat("hi")
    if verb == "lcall":
        return ll.lcall(["hi"], session.chat, max_workers=1)[0]
    with session.stream("hi") as stream:
        return "".join(stream)


def play(name, verb, *, timeout_s, key=CANARY):
    """Play one fault on one call, then heal the server and call again."""
    with (
        FaultServer(name, pause_s=0.02) as server,
        server.service(
            api_key=key, max_retries=1, timeout=timeout_s, max_requests=1_000, max_tokens=10**7
        ) as service,
    ):
        session = ll.Session(service=service)
        answer, error = None, None
        began_s = time.monotonic()
        try:
            answer = ask(verb, session)
        except Exception as exc:
            error = exc
        elapsed_s = time.monotonic() - began_s
        budget = service.stats().budget
        requests = len(server.requests)
        server.heal()
        shown = [deep_text(service), deep_text(session), repr(service.stats())]
        shown += [shown_by(error)] if error is not None else []
        if budget.paused_for_s == 0:
            reply = session.complete("again", timeout=20)
            next_text = reply.text
            shown += [deep_text(reply), repr(pickle.dumps(reply))]
        else:  # a pause is for everybody: this service may not ask for a while
            with server.service() as other:
                next_text = ll.Session(service=other).chat("again", timeout=20)
        service.close()
        left_open = still_open(server)
    return Played(
        text=answer,
        error=error.failed[0] if isinstance(error, ll.CallError) else error,
        elapsed_s=elapsed_s,
        requests=requests,
        in_flight=budget.in_flight + budget.waiting,
        paused_s=budget.paused_for_s,
        next_text=next_text,
        left_open=left_open,
        shown="".join(shown),
    )


def still_open(server, within_s=5.0):
    """Return how many connections are open once the server had time to notice."""
    ends_s = time.monotonic() + within_s
    while server.connections and time.monotonic() < ends_s:
        time.sleep(0.005)
    return server.connections
