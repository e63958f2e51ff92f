"""Command line of the local archive.

``python -m spxflow.demo run -- COMMAND ...`` serves it for the length of a command (``{archive_url}`` in the
command's arguments becomes its address), ``serve`` until told to stop, ``truth`` writes the true fluxes.
"""

from __future__ import annotations

import argparse
import csv
import errno
import json
import os
import signal
import subprocess
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
_LAST_PORT = 65535
_ADDRESS = "{archive_url}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m spxflow.demo", description="A local SPHEREx archive.")
    commands = parser.add_subparsers(dest="task", required=True)
    scenario, archive = _scenario_options(), _archive_options()
    run = commands.add_parser("run", parents=[scenario, archive], help="serve the archive while a command runs")
    run.add_argument("command", nargs="+", help=f"after --: the command; {_ADDRESS} becomes the archive's address")
    run.set_defaults(action=_run)
    serve = commands.add_parser("serve", parents=[scenario, archive], help="serve the archive until told to stop")
    serve.add_argument("--port-file", type=Path, help="file that gets the port number once the archive answers")
    serve.add_argument("--exit-with-parent", action="store_true", help="stop when the starting process ends")
    serve.set_defaults(action=_serve)
    truth = commands.add_parser("truth", parents=[scenario], help="write the true fluxes as CSV to standard output")
    truth.set_defaults(action=_write_truth)
    return parser


def _scenario_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--scenario", default="demo", help="name of the simulated sky (default: demo)")
    options.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_override,
        help="override a number of the scenario, value as JSON; may be repeated",
    )
    return options


def _archive_options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--port", type=_port, default=0, help="port on 127.0.0.1; 0: any free one (default)")
    options.add_argument("--faults", type=_faults, metavar="JSON", help="what goes wrong, as JSON or @FILE")
    options.add_argument("--advertise", choices=("irsa", "self"), default="irsa", help="host in answers")
    options.add_argument("--maxrec", type=int, help="rows that a query answers at most")
    options.add_argument("--ingested", type=int, metavar="N", help="only the first N files are there at first")
    options.add_argument("--request-log", type=Path, help="file that gets one JSON line a request")
    options.add_argument("--control", action="store_true", help=f"let {CONTROL} change faults and files")
    return options


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _LAST_PORT:
        raise argparse.ArgumentTypeError(f"takes a port from 1 to {_LAST_PORT}, or 0 for any free one, not {text!r}")
    return int(text)


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


def _archive(arguments: argparse.Namespace, scenario: Any) -> Archive:
    options = Options(
        port=arguments.port,
        advertise=arguments.advertise,
        limits=Limits(hard=arguments.maxrec),
        ingested_before=arguments.ingested,
        request_log=arguments.request_log,
        control=arguments.control,
    )
    return Archive(scenario, arguments.faults, options)


def _run(arguments: argparse.Namespace, scenario: Any) -> int:
    """Serve for the length of a command; the exit status is the command's."""
    archive = _archive(arguments, scenario)
    try:
        child = subprocess.Popen([word.replace(_ADDRESS, archive.url) for word in arguments.command])  # noqa: S603
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal interrupts the command too
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        status = child.wait()
    finally:
        archive.stop()
    return status if status >= 0 else 128 - status


def _serve(arguments: argparse.Namespace, scenario: Any) -> int:
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    parent = os.getppid()
    archive = _archive(arguments, scenario)
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


def _write_truth(arguments: argparse.Namespace, scenario: Any) -> int:
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
    except (ValueError, TypeError) as error:
        print(f"scenario {arguments.scenario}: {error}", file=sys.stderr)
        return 2
    try:
        return arguments.action(arguments, scenario)
    except OSError as error:
        instead = "; choose another --port" if error.errno == errno.EADDRINUSE else ""
        print(f"the archive cannot be run: {error}{instead}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
