"""A job with a checkpoint that somebody will kill: python killed_job.py '{"path": ...}'

Not a test: kill_tools.py starts it. It prints "ready" when everything is loaded, and its
table as JSON at the end. After each chat that returned it writes a line to a file opened with
O_APPEND: what stands there was finished, and must never be asked for again.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time

import lionlite as ll
from lionlite.calls.journal.item import ItemJournal
from lionlite.calls.runs.run import run

OF_ONE_RUN = {"elapsed_s", "waited_s", "request_ids"}
"""Columns that differ between two runs though nothing was lost."""


class Job:
    def __init__(self, options):
        self.options = options
        self.notes = os.open(options["notes"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.service = ll.Services.Compatible(
            base_url=options["base_url"], api_key="k", model="m", max_requests=None, max_tokens=None
        )

    def asked(self, session, prompt, **more):
        answer = session.chat(prompt, **more)
        line = json.dumps([prompt, time.monotonic()]) + "\n"
        os.write(self.notes, line.encode())
        return answer

    def workflow(self, item):
        """Chat twice in a row, then twice at once in threads of its own."""
        session = ll.Session("Be short.", service=self.service)
        name = item["name"]
        first = self.asked(session, f"{name} first")
        second = self.asked(session, f"{name} second after {first}")
        ask = lambda part: self.asked(session, f"{name} part {part}", remember=False)
        return first, second, ll.lcall([1, 2], ask, max_workers=2)

    def table(self):
        items = [{"name": f"item-{number}"} for number in range(self.options["items"])]
        result = run(
            items,
            self.workflow,
            checkpoint=self.options["path"],
            durability=self.options["durability"],
            max_workers=self.options["workers"],
        )
        return [
            {name: value for name, value in row.items() if name not in OF_ONE_RUN}
            for row in result.to_dicts()
        ]


def die_at(moment, count):
    """Have this process kill itself around the commit of the *count*-th chat."""
    keep = ItemJournal.keep
    counter = itertools.count(1)

    def dying(self, request, nth, reply):
        if next(counter) != count:
            keep(self, request, nth, reply)
            return
        if moment == "inside":
            self._terms.file.write(lambda connection: os.kill(os.getpid(), signal.SIGKILL))
        if moment == "after":
            keep(self, request, nth, reply)
        os.kill(os.getpid(), signal.SIGKILL)

    ItemJournal.keep = dying


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1])
    job = Job(chosen)
    if chosen.get("dies"):
        die_at(chosen["dies"], chosen["count"])
    print("ready", flush=True)
    print(json.dumps(job.table()), flush=True)
