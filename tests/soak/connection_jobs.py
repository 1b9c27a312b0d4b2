"""Long jobs over connections, each in a process of its own, against a server in another one.

    python connection_jobs.py JOB '{...}'     do it; tell what was seen, as JSON

The server is benchmarks/cheap_server.py: it costs little, hangs and streams when a header asks for
it, and says how many connections it has. What a job says: how its calls ended, and the sockets,
threads and memory of the process before and after.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from array import array
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from soak_tools import tell

import lionlite as ll

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from transport_servers import certify, cheap

TIMEOUT_S = 0.2
BUDGET_INTERVAL_S = 1.0
"""Short, so that the budget has forgotten the calls of a job soon after it."""


def done(job, folder=None, **settings):
    """Run *job* beside a server, over TLS if *folder* is given; return what it says."""
    scheme = "http"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    if folder is not None:
        certify(folder)
        scheme, env["SSL_CERT_FILE"] = "https", str(folder / "authority.pem")
    with cheap(scheme, folder) as address:
        command = [sys.executable, __file__, job, json.dumps({"address": address, **settings})]
        said = subprocess.run(command, stdout=subprocess.PIPE, env=env, text=True, check=True)
    return json.loads(said.stdout)


# Inside the process of a job --------------------------------------------------------------


def service_at(address, **options):
    return ll.Services.Compatible(
        base_url=f"{address}/0/v1",
        model="m",
        api_key="sk-soak-00000000",
        token_encoding_name="estimate",
        max_requests=10**9,
        max_tokens=10**12,
        interval=BUDGET_INTERVAL_S,
        **options,
    )


def chat(service, step=None, **options):
    """Make a session and chat; return how it ended."""
    headers = {} if step is None else {"x-step": step}
    try:
        said = ll.Session("Be brief.", service=service).chat(
            "How was the quarter?", extra_headers=headers, **options
        )
    except ll.LionError as error:
        return type(error).__name__
    return "ok" if said.startswith("The quarter") else f"wrong: {said:.40}"


def pooled(function, calls, threads):
    """Call *function* so often, and count what it returned."""
    with ThreadPoolExecutor(threads) as pool:
        return Counter(pool.map(lambda _: function(), range(calls)))


def footprint():
    """Return the process's sockets, threads, blocks of memory, and resident MiB."""
    gc.collect()
    sockets = 0
    for open_file in Path("/proc/self/fd").iterdir():
        # The listing's own descriptor is gone again.
        with contextlib.suppress(OSError):
            sockets += str(open_file.readlink()).startswith("socket:")
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "sockets": sockets,
        "threads": threading.active_count(),
        "blocks": sys.getallocatedblocks(),
        "rss_mib": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
    }


def connections_at(address, most=None):
    """Return what a plain server says it has, this question left out.

    With *most* it is asked for up to 5 s until no more than so many are open.
    """
    url = urlsplit(address)
    ends_s = time.monotonic() + 5
    while True:
        with contextlib.closing(HTTPConnection(url.hostname, url.port)) as connection:
            connection.request("POST", "/count")
            seen = json.loads(connection.getresponse().read())
        seen["open"] -= 1
        if most is None or seen["open"] <= most or time.monotonic() > ends_s:
            return seen
        time.sleep(0.05)


def settled(service):
    """Let the budget forget, and return the footprint and what is still in flight."""
    time.sleep(1.2 * BUDGET_INTERVAL_S)
    assert chat(service) == "ok"
    budget = service.stats().budget
    return {**footprint(), "in_flight": budget.in_flight, "waiting": budget.waiting}


def healthy(address, calls, threads):
    """Many calls over many threads; what remains is compared with what half of them left."""
    with service_at(address) as service:
        ends = pooled(lambda: chat(service), calls // 2, threads)
        before = settled(service)
        began_s, cpu_s = time.monotonic(), time.process_time()
        ends += pooled(lambda: chat(service), calls - calls // 2, threads)
        cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - began_s
        after = settled(service)
        stats = service.stats()
    return {
        "ends": ends,
        "retries": stats.retries,
        "before": before,
        "after": after,
        "closed": footprint(),
        "calls_per_s": calls / 2 / wall_s,
        "cpu_us": cpu_s / (calls / 2) * 1e6,
    }


def healthy_http(address, calls, threads):
    """As `healthy`, with the server's own count of connections."""
    said = healthy(address, calls, threads)
    return {**said, "server": connections_at(address, most=0)}


def timeouts(address, calls, threads):
    """Calls that nobody answers, then at once one that is; a lost permit would hold it up."""
    with service_at(address, max_concurrency=threads) as service:
        pooled(lambda: chat(service), threads, threads)
        before = settled(service)
        took_s = array("d")  # a list would hold an object for each call

        def hang():
            began_s = time.monotonic()
            end = chat(service, "hang", timeout=TIMEOUT_S)
            took_s.append(time.monotonic() - began_s)
            return end

        ends = pooled(hang, calls, threads)
        began_s = time.monotonic()
        next_end = chat(service)
        next_s = time.monotonic() - began_s
        at_once = pooled(lambda: chat(service), threads, threads)
        after = settled(service)
        server = connections_at(address, most=threads)
    late_s = sorted(seconds - TIMEOUT_S for seconds in took_s)
    return {
        "ends": ends,
        "late_p99_s": late_s[int(0.99 * len(late_s))],
        "next": [next_end, next_s],
        "at_once": at_once,
        "before": before,
        "after": after,
        "server": server,
    }


def streams(address, calls, threads):
    """Streams of 200 pieces, left after the first: by `with`, by an error, or just dropped."""
    ways = itertools.count()

    def leave():
        session = ll.Session(service=service)
        way = next(ways) % 3
        try:
            stream = session.stream(
                "How was the quarter?", extra_headers={"x-step": "sse-200-3000"}
            )
            if way == 2:
                return "left" if float(next(iter(stream))) else "nothing"
            with stream:
                for text in stream:
                    if way == 1:
                        raise KeyError(text)
                    return "left" if float(text) and session.messages == [] else "kept"
        except KeyError:
            return "left" if session.messages == [] else "kept"
        except ll.LionError as error:
            return type(error).__name__

    with service_at(address, max_concurrency=threads) as service:
        pooled(leave, 4 * threads, threads)
        before = settled(service)
        ends = pooled(leave, calls, threads)
        server = connections_at(address, most=threads)
        next_end = chat(service)
        after = settled(service)
    return {
        "ends": ends,
        "next": next_end,
        "before": before,
        "after": after,
        "server": server,
        "closed": connections_at(address, most=0),
    }


JOBS = {
    "healthy": healthy,
    "healthy_http": healthy_http,
    "timeouts": timeouts,
    "streams": streams,
}

if __name__ == "__main__":
    tell(json.dumps(JOBS[sys.argv[1]](**json.loads(sys.argv[2]))))
