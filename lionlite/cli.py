"""The command line: `lionlite demo`, `lionlite serve` and `lionlite journal`.

Holds: arguments, exit codes, what is printed. Does not hold: what the commands
do. Exit codes: 0 well, 1 something is wrong, 2 wrong arguments, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import TYPE_CHECKING

import lionlite
from lionlite import jsontext
from lionlite.calls.journal import show as journal_show
from lionlite.demo import Settings, run_live, run_local
from lionlite.exceptions import ConfigError, LionError
from lionlite.service.reply import reply_from_json
from lionlite.service.services import Services
from lionlite.testing.serve import serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lionlite.records import Usage

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv* names and return the exit code.

    Args:
        argv: Words after the program's name; None = those of the process.
    """
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
    except ConfigError as exc:
        sys.stderr.write(f"lionlite: {exc}\n")
        return 2
    except LionError as exc:
        sys.stderr.write(f"lionlite: {exc}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("lionlite: interrupted\n")
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lionlite", description="Blocking LLM chat sessions behind one exact rate limiter."
    )
    parser.add_argument("--version", action="version", version=lionlite.__version__)
    commands = parser.add_subparsers(required=True, metavar="command")
    _add_demo(commands.add_parser("demo", help="run the guide's job; no key, no internet"))
    _add_serve(commands.add_parser("serve", help="serve a fake provider on this machine"))
    _add_journal(commands.add_parser("journal", help="show what is in a checkpoint file"))
    return parser


def _add_demo(parser: argparse.ArgumentParser) -> None:
    default = Settings()
    parser.set_defaults(run=_demo)
    parser.add_argument("--contexts", type=_positive, default=default.contexts)
    parser.add_argument("--workers", type=_positive, default=default.workers)
    _add_limits(parser, default)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--live", choices=["openai", "openrouter"], help="use the real provider")
    parser.add_argument("--model", help="the model of --live")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_serve)
    parser.add_argument("--port", type=int, default=0, help="0 = any free port")
    _add_limits(parser, Settings())
    parser.add_argument("--charge", choices=["estimate", "adjust", "usage"], default="estimate")
    parser.add_argument("--model", default="calculator")
    parser.add_argument("--until-stdin-closes", action="store_true")


def _add_journal(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=_journal)
    parser.add_argument("file", help="as given to checkpoint=; a run may be writing it")
    parser.add_argument("--json", action="store_true", help="every item, as a line of JSON")


def _add_limits(parser: argparse.ArgumentParser, default: Settings) -> None:
    parser.add_argument("--max-requests", type=_positive, default=default.max_requests)
    parser.add_argument("--max-tokens", type=_positive, default=default.max_tokens)
    parser.add_argument("--interval", type=float, default=default.interval_s, help="seconds")
    parser.add_argument("--latency", type=float, default=default.latency_s, help="seconds")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        msg = f"{text} is not >= 1"
        raise argparse.ArgumentTypeError(msg)
    return number


def _demo(arguments: argparse.Namespace) -> int:
    settings = Settings(
        contexts=arguments.contexts,
        max_requests=arguments.max_requests,
        max_tokens=arguments.max_tokens,
        interval_s=arguments.interval,
        latency_s=arguments.latency,
        workers=arguments.workers,
        is_quiet=arguments.quiet,
    )
    if arguments.live is None:
        outcome = run_local(settings)
    else:
        make = {"openai": Services.OpenAI, "openrouter": Services.OpenRouter}[arguments.live]
        service = make(
            model=arguments.model,
            max_requests=settings.max_requests,
            max_tokens=settings.max_tokens,
            interval=settings.interval_s,
        )
        outcome = run_live(service, settings)
    sys.stdout.write(outcome.table() + "\n")
    return 1 if outcome.problems else 0


def _serve(arguments: argparse.Namespace) -> int:
    stop = threading.Event()
    _stop_on_signals(stop)
    if arguments.until_stdin_closes:
        threading.Thread(target=_stop_at_end_of_input, args=(stop,), daemon=True).start()
    serve(
        port=arguments.port,
        latency_s=arguments.latency,
        max_requests=arguments.max_requests,
        max_tokens=arguments.max_tokens,
        interval_s=arguments.interval,
        charge=arguments.charge,
        model=arguments.model,
        announce=_announce,
        stop=stop,
    )
    return 0


def _journal(arguments: argparse.Namespace) -> int:
    if arguments.json:
        for item in journal_show.items(arguments.file):
            sys.stdout.write(jsontext.encode(item).decode() + "\n")
    else:
        sys.stdout.write("\n".join(journal_show.report(arguments.file, _told)) + "\n")
    return 0


def _told(kept: bytes) -> tuple[str, Usage | None, float | None]:
    try:
        reply = reply_from_json(kept)
    except LionError:
        return "not readable", None, None
    return reply.model, reply.usage, reply.cost


def _stop_on_signals(stop: threading.Event) -> None:
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda _number, _frame: stop.set())


def _stop_at_end_of_input(stop: threading.Event) -> None:
    sys.stdin.read()
    stop.set()


def _announce(base_url: str) -> None:
    sys.stdout.write(base_url + "\n")
    sys.stdout.flush()
