"""Which line of a log is said to be the error."""

import pytest

from environments.agent.ending import Tail

MINE = 'Traceback (most recent call last):\n  File "train.py", line 7, in <module>\n    step()\nValueError: shard 3\n'
TORCHRUN = 'Traceback (most recent call last):\n  File "/x/run.py", line 1, in main\n    raise\nelastic.errors.ChildFailedError: \n=====\ntrain.py FAILED\n'
TYPO = '  File "/code/train.py", line 2\n    def f(:\n          ^\nSyntaxError: invalid syntax\n'
RANKS = "".join(f"[rank1]: {line}\nepoch of rank 0\n" for line in MINE.splitlines())


@pytest.mark.parametrize(
    ("log", "type_", "message", "line", "place"),
    [
        (MINE, "ValueError", "shard 3", 3, ("train.py", 7)),
        (MINE + "W torchrun says something\n" + TORCHRUN, "ValueError", "shard 3", 3, ("train.py", 7)),
        (RANKS + TORCHRUN, "ValueError", "shard 3", 6, ("train.py", 7)),
        (TYPO, "SyntaxError", "invalid syntax", 3, ("train.py", 2)),
        ("before\n" + TYPO + TORCHRUN, "SyntaxError", "invalid syntax", 4, ("train.py", 2)),
        (TORCHRUN, "elastic.errors.ChildFailedError", "", 3, (None, None)),
    ],
    ids=["script", "torchrun", "ranks of a process group", "syntax", "syntax under torchrun", "torchrun alone"],
)  # fmt: skip
def test_the_error_is_of_the_process_that_failed_not_of_its_launcher(log, type_, message, line, place):
    tail = Tail()
    tail.add(log.encode())
    # Lines are counted from 0 here: those that were dropped come before.
    error = tail.error(b"/code")
    assert (error["type"], error["message"], error["line"]) == (type_, message, line)
    assert (error.get("file"), error.get("file_line")) == place


def test_a_log_without_a_traceback_names_no_error():
    tail = Tail()
    tail.add(b"[rank1]: nothing\nValueError: not raised\n")
    assert tail.error() is None
