"""Lines of `records.jsonl`, the file through which a run tells the studio what it logged."""

from __future__ import annotations

import json
import os

from .errors import RunsteadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator


class Writer:
    """Appends lines, each in one write.

    Safe for threads and for processes forked from this one: nothing is buffered.
    """

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
        try:
            self.fd = os.open(os.path.join(run_dir, "records.jsonl"), flags, 0o600)
        except OSError as error:
            raise RunsteadError("The run's records cannot be opened: %s" % error) from None

    def write(self, line: str) -> None:
        """Append a line, which ends in a line break. Raises RunsteadError when the disk does not take it."""
        data = line.encode("ascii")
        try:
            done = os.write(self.fd, data)
        except OSError as error:
            raise RunsteadError("The run's records cannot be written: %s" % error) from None
        if done < len(data):
            # The disk filled up inside the line. End it, so that it spoils no other, and say so.
            try:
                os.write(self.fd, b"\n")
            except OSError:
                pass
            raise RunsteadError("The disk is full: the value was not logged.")

    def put(self, **record: Any) -> None:
        """Append a record. ASCII only, so that no name and no text can break a line."""
        self.write(json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n")


def read(run_dir: str, having: str = "") -> Iterator[Dict[str, Any]]:
    """Every record written so far, by any process of the run. Lines that are none are skipped.

    `having`: those alone whose line has this ASCII text in it, which is told without parsing the others.
    """
    mark = having.encode("ascii")
    try:
        file = open(os.path.join(run_dir, "records.jsonl"), "rb")
    except OSError:
        return
    with file:
        for line in file:
            if mark not in line:
                continue
            try:
                record = json.loads(line.decode())
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record
