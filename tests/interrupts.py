"""Ctrl-C, or what another signal raises, at each place where it may come, one at a time."""

from __future__ import annotations

import inspect
import itertools
import sys
from contextlib import contextmanager
from dis import opname

# Where Python looks for signals: after these; but after a call only where C was called.
CHECKED_AFTER = ("CALL", "RESUME", "JUMP_BACKWARD")


@contextmanager
def ctrl_c_at(number, files, *, outside, collected=(), error=KeyboardInterrupt):
    """Raise *error* at the *number*-th place in *files* where a signal may come.

    Args:
        number: Which place.
        files: The files of the code that is cut.
        outside: Functions that stand outside of what they protect until their first step.
        collected: Functions run by the collector, which swallows what they raise.
        error: What the signal's handler raises.
    """
    seen, last = itertools.count(), {}

    def at_opcode(frame, event, _argument):
        if event == "opcode":
            before = last.get(frame, "RESUME")
            last[frame] = opname[frame.f_code.co_code[frame.f_lasti]]
            is_outside = before == "RESUME" and frame.f_code.co_name in outside
            if before.startswith(CHECKED_AFTER) and not is_outside and next(seen) == number:
                raise error
        return at_opcode

    def at_call(frame, _event, _argument):
        code = frame.f_code
        if code.co_name != "__init__" and not code.co_flags & inspect.CO_GENERATOR:
            last[frame.f_back] = ""
        if code.co_filename not in files or code.co_name in collected:
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return at_opcode

    tracer = sys.gettrace()
    # From 3.12 on, a frame that wants opcodes must be there when tracing begins.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(at_call)
    try:
        yield
    finally:
        sys.settrace(tracer)
        # The frames hold what they had: without them, what was dropped goes at once.
        last.clear()
