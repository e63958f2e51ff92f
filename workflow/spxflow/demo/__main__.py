"""Command line of the local archive: ``python -m spxflow.demo serve`` and ``truth``."""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spxflow.demo.faults import FaultPlan
from spxflow.demo.server import CONTROL, Archive, Options
from spxflow.demo.web import Limits
from spxflow.files import write_atomically

_PARENT_CHECK_S = 0.5


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spxflow.demo", description="A local SPHEREx archive.")
    commands = parser.add_subparsers(dest="command", required=True)
    scenario = argparse.ArgumentParser(add_help=False)
    scenario.add_argument("--scenario", default="demo", help="name of the simulated sky (default: demo)")
    scenario.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_override,
        help="override a number of the scenario, value as JSON; may be repeated",
    )
    serve = commands.add_parser("serve", parents=[scenario], help="serve the archive on 127.0.0.1 until told to stop")
    serve.add_argument("--port", type=int, default=0, help="port; 0: any free one (default)")
    serve.add_argument("--port-file", type=Path, help="file that gets the port number once the archive answers")
    serve.add_argument(
        "--faults", type=_faults, default=FaultPlan(), metavar="JSON", help="what goes wrong, as JSON or @FILE"
    )
    serve.add_argument(
        "--advertise", choices=("irsa", "self"), default="irsa", help="host inside answers (default: irsa)"
    )
    serve.add_argument("--maxrec", type=int, help="rows that a query answers at most")
    serve.add_argument("--ingested", type=int, metavar="N", help="only the first N files are there at first")
    serve.add_argument("--request-log", type=Path, help="file that gets one JSON line a request")
    serve.add_argument("--control", action="store_true", help=f"let {CONTROL} change faults and files")
    serve.add_argument("--verbose", action="store_true", help="report requests on standard error")
    serve.add_argument(
        "--exit-with-parent", action="store_true", help="stop when the process that started this one ends"
    )
    commands.add_parser("truth", parents=[scenario], help="write the true fluxes as CSV to standard output")
    return parser


def _override(text: str) -> tuple[str, Any]:
    name, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"takes NAME=VALUE, not {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _faults(text: str) -> FaultPlan:
    try:
        return FaultPlan.parse(json.loads(Path(text[1:]).read_text() if text.startswith("@") else text))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _serve(arguments: argparse.Namespace, scenario: Any) -> int:
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    parent = os.getppid()
    options = Options(
        port=arguments.port,
        advertise=arguments.advertise,
        limits=Limits(hard=arguments.maxrec),
        ingested_before=arguments.ingested,
        request_log=arguments.request_log,
        control=arguments.control,
        verbose=arguments.verbose,
    )
    archive = Archive(scenario, arguments.faults, options)
    try:
        if arguments.port_file is not None:
            write_atomically(arguments.port_file, f"{archive.port}\n")
        print(archive.url, flush=True)
        while not stopped.wait(_PARENT_CHECK_S):
            if arguments.exit_with_parent and os.getppid() != parent:
                break
    finally:
        archive.stop()
    return 0


def _write_truth(scenario: Any) -> int:
    rows = scenario.truth()
    writer = csv.DictWriter(sys.stdout, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    from spxflow.demo.scenario import load

    try:
        scenario = load(arguments.scenario, **dict(arguments.set))
    except (KeyError, ValueError, TypeError) as error:
        print(f"scenario {arguments.scenario}: {error}", file=sys.stderr)
        return 2
    return _write_truth(scenario) if arguments.command == "truth" else _serve(arguments, scenario)


if __name__ == "__main__":
    sys.exit(main())
