"""Files that are whole or not there: written beside their place and renamed."""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_PARTIAL = ".part"


@contextmanager
def partial_path(path: Path | str) -> Iterator[Path]:
    """A temporary sibling of ``path`` that takes its place when the block ends well.

    The file is flushed to disk before the rename, so that a name never points at half a
    file, not even after ``kill -9`` or a power cut. On an exception the partial file goes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_PARTIAL}")
    try:
        yield partial
        with open(partial, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(directory: Path | str) -> None:
    """Remove what writers that were killed left below a directory. No other process may be writing there."""
    for parent, _, names in os.walk(directory):
        for name in names:
            if name.startswith(".") and name.endswith(_PARTIAL):
                Path(parent, name).unlink(missing_ok=True)


def write_atomically(path: Path | str, content: str | bytes) -> None:
    """Write a whole small file, text as UTF-8."""
    with partial_path(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path | str, content: Any, indent: int | None = None) -> None:
    """Write strict JSON (no NaN or infinity), keys in the order given."""
    write_atomically(path, json.dumps(content, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file."""
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def write_yaml(path: Path | str, content: Any) -> None:
    """Write YAML of plain values, keys in the order given."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast, where libyaml is there
    write_atomically(path, yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True))


def read_yaml(path: Path | str) -> Any:
    """Read YAML of plain values."""
    import yaml

    with open(path, encoding="utf-8") as stream:
        return yaml.safe_load(stream)


def write_csv(path: Path | str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV, floats in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def read_cache(path: Path | str) -> Any:
    """Read a JSON file that other users may have written.

    Raises
    ------
    OSError
        Also when it is another user's, and everybody may write it or its directory.
    """
    path = Path(path)
    for place in (path, path.parent):
        status = place.stat()
        if status.st_uid != os.geteuid() and status.st_mode & stat.S_IWOTH:
            raise PermissionError(errno.EPERM, "another user's, writable by everybody", str(place))
    return read_json(path)


def read_records(paths: Iterable[Path | str]) -> Iterator[Any]:
    """Records of JSON files that hold one each, or a list of them."""
    for path in paths:
        content = read_json(path)
        if isinstance(content, list):
            yield from content
        else:
            yield content


def hold_lock(path: Path | str, waits: bool = False) -> IO[str]:
    """Take an exclusive lock that ends with the process, however it ends.

    Parameters
    ----------
    path
        Lock file.
    waits
        Whether to wait for another holder, be it a process or a thread.

    Returns
    -------
    The open lock file: the lock is held as long as it stays open.

    Raises
    ------
    BlockingIOError
        When another holds it and it is not waited for.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = open(path, "a", encoding="utf-8")  # noqa: SIM115
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        lock.close()
        raise
    return lock
