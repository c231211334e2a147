"""The script under test writes down itself that it was started and what it printed; this module reads that."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

SCRIPT = '''\
"""Prints numbered lines, leaves one output, and notes each start in a file of its own."""
import argparse, os, signal, sys, time

parser = argparse.ArgumentParser()
parser.add_argument("--oracle")
parser.add_argument("--lines", type=int, default=20)
parser.add_argument("--every", type=float, default=0.02)
parser.add_argument("--code", type=int, default=0)
parser.add_argument("--signal", type=int, default=0)
parser.add_argument("--large", type=int, default=0)
parser.add_argument("--children", type=int, default=0)
options = parser.parse_args()

run = os.environ["AZUREML_RUN_ID"]
with open(options.oracle, "a") as file:
    file.write("start %s %d\\n" % (run, os.getpid()))
from runstead import Run
context = Run.get_context()
for number in range(options.children):
    with context.child_run("child %d" % number) as child:
        child.log("number", number)
        with open("child.txt", "w") as file:
            file.write(child.name)
        child.upload_file("child.txt", "child.txt")
if options.children:
    context.child_run("open")
for number in range(options.lines):
    print("%s line %06d %s" % (run, number, "x" * (number % 50)))
    context.log("number", number)
    time.sleep(options.every)
with open("outputs/result.txt", "w") as file:
    file.write("result of %s\\n" % run)
if options.large:
    with open("outputs/large.bin", "wb") as file:
        file.write((run.encode() * (options.large // len(run) + 1))[:options.large])
if options.children:
    context.register_model(run, "outputs/result.txt")
with open(options.oracle, "a") as file:
    file.write("end %s %d\\n" % (run, os.getpid()))
sys.stdout.flush()
if options.signal:
    os.kill(os.getpid(), options.signal)
    time.sleep(60)
sys.exit(options.code)
'''


class Oracle:
    """``mode``: of the file in which the script notes its start. Runs of other users on the same machine need 0o666."""

    def __init__(self, folder: Path, mode: int = 0o644) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        (self.folder / "train.py").write_text(SCRIPT)
        self.path = folder / "oracle.txt"
        self.path.touch()
        self.path.chmod(mode)

    def arguments(self, **options) -> list[str]:
        return ["--oracle", str(self.path), *[part for k, v in options.items() for part in (f"--{k}", str(v))]]

    def count(self, word: str, uid: str) -> int:
        return sum(1 for line in self.path.read_text().splitlines() if line.split()[:2] == [word, uid])

    def most_at_once(self, uids: Iterable[str]) -> int:
        """How many scripts of these runs were ever under way at the same time, of those that wrote down both start and end.

        The order of the lines is the order of the events: each is one write, made before the script goes on or ends.
        """
        lines = [line.split()[:2] for line in self.path.read_text().splitlines()]
        over = {uid for word, uid in lines if word == "end"} & set(uids)
        most = now = 0
        for word, uid in lines:
            if uid in over:
                now += 1 if word == "start" else -1
                most = max(most, now)
        return most

    @staticmethod
    def log(uid: str, lines: int) -> tuple[int, str]:
        """Size and SHA-256 of what a run of this id prints."""
        text = "".join(f"{uid} line {n:06d} {'x' * (n % 50)}\n" for n in range(lines)).encode()
        return len(text), hashlib.sha256(text).hexdigest()

    @staticmethod
    def artifacts(uid: str, large: int = 0) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of each output by its path."""
        contents = {"outputs/result.txt": f"result of {uid}\n".encode()}
        if large:
            contents["outputs/large.bin"] = (uid.encode() * (large // len(uid) + 1))[:large]
        return {path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in contents.items()}
