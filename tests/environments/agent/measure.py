"""Prints what the agent costs: `python -m tests.environments.agent.measure`. Floors are measured beside, in the same run."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environments.agent import processes
from tests.environments.agent.conftest import Follower, Runs
from tests.waiting import until

HELLO = ["/bin/echo", "hello"]


def milliseconds(values):
    ordered = sorted(values)
    return f"{statistics.median(ordered):8.1f} {ordered[int(len(ordered) * 0.95)]:8.1f} ms"


def floor(count=30):
    taken = []
    for _ in range(count):
        begin = time.perf_counter()
        with subprocess.Popen(HELLO, stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            taken.append((time.perf_counter() - begin) * 1000)
    return taken


def launches(runs, count=30):
    first, last = [], []
    for _ in range(count):
        attempt = runs.prepare(HELLO)
        follower = Follower(runs.host, attempt)
        begin = time.perf_counter()
        runs.host.launch([("runs", attempt)])
        while "log" not in follower.data:
            follower.step()
        first.append((time.perf_counter() - begin) * 1000)
        while not follower.evidence["exit"]:
            follower.step()
        last.append((time.perf_counter() - begin) * 1000)
    return first, last


def together(runs, count=100):
    attempts = [runs.prepare(HELLO) for _ in range(count)]
    begin = time.perf_counter()
    runs.host.launch([("runs", attempt) for attempt in attempts])
    for attempt in attempts:
        until((runs.folder(attempt) / "exit.json").exists, 60, every=0.005)
    return (time.perf_counter() - begin) * 1000 / count


def delays(runs, count=100):
    code = f"import time\nfor n in range({count}):\n  time.sleep(0.02)\n  print(time.time(), flush=True)"
    follower = Follower(runs.host, runs.python(code))
    found, seen = [], 0
    while len(found) < count:
        follower.step()
        now = time.time()
        lines = follower.data.get("log", b"").splitlines()
        found += [(now - float(line)) * 1000 for line in lines[seen:]]
        seen = len(lines)
    return found


FLOOD = "import os, time\nb = memoryview(b'x' * 99 + b'\\n') if 0 else memoryview((b'x' * 99 + b'\\n') * 10000)\nt = time.time()\nfor _ in range({count}):\n  m = b\n  while m: m = m[os.write(1, m):]\nopen(os.environ.get('OUT', 'outputs/t'), 'w').write(str(time.time() - t))"


def throughput(runs, megabytes=1000, **changes):
    attempt = runs.python(FLOOD.format(count=megabytes), limits={"log_bytes": 2 << 30}, **changes)
    runs.exit(attempt, seconds=120)
    return megabytes / float((runs.folder(attempt) / "code" / "outputs" / "t").read_text())


def to_a_file(runs, megabytes=1000):
    with tempfile.TemporaryDirectory(dir=runs.root) as folder:
        code = FLOOD.format(count=megabytes)
        with (Path(folder) / "log").open("wb") as log:
            env = {**os.environ, "OUT": folder + "/t"}
            subprocess.run([sys.executable, "-c", code], stdout=log, env=env, check=True)
        return megabytes / float((Path(folder) / "t").read_text())


def small_lines(runs, count=1_000_000):
    code = f"import time, sys\nt = time.time()\nfor n in range({count}): sys.stdout.write('%099d\\n' % n)\nsys.stdout.flush()\nopen('outputs/t', 'w').write(str(time.time() - t))"
    attempt = runs.start([sys.executable, "-c", code])
    follower = Follower(runs.host, attempt)
    begin = time.perf_counter()
    follower.to_the_end(60, limit=8 << 20)
    assert len(follower.data["log"]) == count * 100
    return time.perf_counter() - begin


def cpu(pids):
    total = 0
    for pid in pids:
        fields = processes.stat_fields(pid)
        total += sum(int(field) for field in fields[11:13]) if fields else 0
    return total / os.sysconf("SC_CLK_TCK")


def idle(runs, count=50, seconds=20):
    attempts = [runs.prepare(["/bin/sleep", "600"]) for _ in range(count)]
    runs.host.launch([("runs", attempt) for attempt in attempts])
    for attempt in attempts:
        runs.state(attempt)
    cursors = {attempt: Follower(runs.host, attempt).cursor for attempt in attempts}
    agent, supervisors = [runs.host.hello()["pid"]], [runs.owner(attempt) for attempt in attempts]
    end = time.monotonic() + 3 + seconds
    start = None
    while time.monotonic() < end:
        changed, _ = runs.host.watch(list(cursors.values()), 1)
        for run in changed:
            cursors[run["attempt"]]["seen"] = run["rev"]
            for name, offset, data in run["parts"]:
                cursors[run["attempt"]][name] = offset + len(data)
        if start is None and time.monotonic() > end - seconds:
            start = cpu(agent), cpu(supervisors), time.monotonic()
    passed = time.monotonic() - start[2]
    result = (cpu(agent) - start[0]) / passed * 100, (cpu(supervisors) - start[1]) / passed * 100
    for attempt in attempts:
        runs.host.cancel("runs", attempt, 1)
    for attempt in attempts:
        runs.exit(attempt)
    return result


def main():
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder) / "root")
        launches(runs, 3)
        print(f"floor: subprocess, first line          {milliseconds(floor())}")
        first, last = launches(runs)
        print(f"launch → first line over the watch     {milliseconds(first)}")
        print(f"launch → exit record over the watch    {milliseconds(last)}")
        print(f"100 at once, each                      {together(runs):8.1f}")
        print(f"print → watch reply                    {milliseconds(delays(runs))}")
        print(f"log, 1 MB writes, MB/s                 {throughput(runs):8.0f}   to a file: {to_a_file(runs):.0f}")
        print(
            f"  with three secrets, MB/s             {throughput(runs, 300, secrets={n: n * 20 for n in 'abc'}):8.0f}"
        )
        print(f"1,000,000 lines, 100 MB over the watch {small_lines(runs):8.2f} s")
        agent, supervisors = idle(runs)
        print(f"50 idle runs, % of a core              {agent:8.2f} agent, {supervisors:.2f} their supervisors")
        runs.close()


if __name__ == "__main__":
    main()
