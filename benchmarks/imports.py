"""CPU of importing lionlite, and of a first Service and Session, against importing httpx.

    python benchmarks/imports.py [rounds]

Fresh processes in turn, user + system seconds of each as the system counts them, less those of
an interpreter that imports nothing; medians and ratios of one run.
"""

from __future__ import annotations

import compileall
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import lionlite

CASES = {
    "nothing": "pass",
    "import httpx": "import httpx",
    "import lionlite": "import lionlite",
    "first Service and Session": (
        "import lionlite as ll\n"
        "s = ll.Services.OpenAI(api_key='k', max_requests=500, max_tokens=90_000)\n"
        "ll.Session('You are a calculator.', service=s)"
    ),
}


def cpu_s(code):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    # As an installed package is: pip compiles what it installs.
    compileall.compile_dir(Path(lionlite.__file__).parent, quiet=1)
    seen = {name: [] for name in CASES}
    for code in CASES.values():
        cpu_s(code)
    for _ in range(rounds):
        for name, code in CASES.items():
            seen[name].append(cpu_s(code))
    idle = statistics.median(seen.pop("nothing"))
    medians = {name: statistics.median(times) - idle for name, times in seen.items()}
    gross = {name: statistics.median(times) for name, times in seen.items()}
    base = medians["import httpx"]
    base_gross = gross["import httpx"]
    print(f"{rounds} fresh processes each, medians; an interpreter alone: {idle * 1e3:.0f} ms")
    for name, value in medians.items():
        print(
            f"{name:<28} {value * 1e3:7.1f} ms net, {value / base:5.2f} x   "
            f"({gross[name] * 1e3:.0f} ms gross, {gross[name] / base_gross:.2f} x)"
        )


if __name__ == "__main__":
    main()
