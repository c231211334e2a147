"""A process that was forked ends with whoever forked it, also when that one dies first."""

import subprocess
import sys
import textwrap

import pytest

from tests.waiting import until

CODE = """
import os, sys, time
from studio.hardening import end_with
mark, early = sys.argv[1], sys.argv[2] == "early"
above = os.getpid()
if os.fork() == 0:
    os.close(1)
    open(mark + ".forked", "w").close()
    while early and os.getppid() == above:
        time.sleep(0.01)  # whoever forked us dies before we could ask to be told
    end_with(above)
    open(mark, "w").close()
    time.sleep(60)
while not os.path.exists(mark if not early else mark + ".forked"):
    time.sleep(0.01)
os._exit(0)
"""


@pytest.mark.parametrize("when", ["early", "later"])
def test_a_forked_process_does_not_outlive_the_one_that_forked_it(tmp_path, when):
    mark = tmp_path / f"runstead-forked-{when}"
    subprocess.run([sys.executable, "-c", textwrap.dedent(CODE), str(mark), when], check=True, timeout=20)

    def left() -> str:
        return subprocess.run(["pgrep", "-f", mark.name], capture_output=True, text=True, check=False).stdout

    until(lambda: not left(), 10, what="the forked process ends")
    assert mark.exists() == (when == "later")
