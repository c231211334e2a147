"""Every place where an attendant causes something outside itself is found by watching one, and is then where it dies.

Nobody keeps the list: a new side effect in the studio's code is a new test. The same with the agent as the victim.
"""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.environments.docker_engine import IMAGE, engine_or_skip
from tests.faults.containers import containers
from tests.faults.hosts import Hosts
from tests.faults.oracle import Oracle
from tests.live import ROOT
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

LINES, EVERY, LARGE, CHILDREN = 12, 0.05, 1_500_000, 3
PARALLEL = 8
TURNS = 4
LONG = bool(os.environ.get("RUNSTEAD_TEST_LONG"))


class Crashing:
    """The other end of tests.faults.crashing."""

    def __init__(self, folder: Path, place: Path | None = None) -> None:
        """``place``: where runs on another machine can write as well."""
        self.folder, self.place = folder, place or folder / "oracle"
        self.place.mkdir(exist_ok=True)
        (folder / "data").mkdir(mode=0o700)
        kept = {k: v for k, v in os.environ.items() if not k.startswith("RUNSTEAD_")}
        self.output = folder / "crashing.out"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.crashing"], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.output.open("w"),
            env={**kept, "RUNSTEAD_DATA_DIR": str(folder / "data"), "XDG_CONFIG_HOME": str(folder), "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert self.line().get("ready")
        self.oracle = Oracle(self.place, 0o666)
        (self.oracle.folder / "large.bin").write_bytes(os.urandom(2_500_000))
        self.made = 0

    def line(self) -> dict:
        for text in self.process.stdout:
            if text.startswith("{"):
                return json.loads(text)
        raise AssertionError(self.output.read_text()[-3000:])

    def job(self, scenario: str, victim: str, trap, hosts: Hosts | None = None, launcher: str = "process") -> dict:
        """``hosts``: the run is on the first of these; ``launcher``: or in a container of the engine here."""
        self.made += 1
        name = f"job{self.made}"
        root = self.folder / "roots" / name
        remote = {}
        if hosts is not None:
            root = hosts.home(1) / name
            remote = {"transport": "ssh", "options": hosts.options(1), "credentials": hosts.credentials()}
        options = {}
        if launcher == "docker":
            mounts = [{"source": str(self.place), "target": str(self.place), "read_only": False}]
            options = {"options": {"docker": {"base_image": IMAGE, "mounts": mounts}}}
        lines = LINES if scenario == "complete" else 1000
        return {
            "folder": str(self.oracle.folder), "arguments": self.oracle.arguments(lines=lines, every=EVERY, large=LARGE, children=CHILDREN),
            "root": f"~/{name}" if remote else str(root), "seen_as": str(root), "notes": str(self.folder / name), "trap": trap,
            "victim": victim, "scenario": scenario, "launcher": launcher, **options, **remote,
        }  # fmt: skip

    def carry_out(self, jobs: list[dict], parallel: int = PARALLEL) -> list[dict]:
        (self.folder / "roots").mkdir(exist_ok=True)
        self.process.stdin.write(json.dumps({"jobs": jobs, "parallel": parallel}) + "\n")
        self.process.stdin.flush()
        found = {}
        while not (answer := self.line()).get("done"):
            found[answer["number"]] = answer
        assert len(found) == len(jobs), self.output.read_text()[-3000:]
        return [found[number] for number in range(len(jobs))]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def crashing(tmp_path_factory):
    made = Crashing(tmp_path_factory.mktemp("crashing"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def effects(crashing):
    """Scenario → what one attendant caused, and how often."""
    return watched(crashing)


def watched(crashing: Crashing, **where) -> dict[str, Counter]:
    found = {}
    jobs = [crashing.job(scenario, "attendant", None, **where) for scenario in ENDS]
    for job, answer in zip(jobs, crashing.carry_out(jobs), strict=True):
        check(crashing, job, answer)
        found[job["scenario"]] = Counter(Path(job["notes"]).read_text().splitlines())
    return found


ENDS = {"complete": ("Completed", "exited"), "cancel": ("Canceled", "canceled"), "lost": ("Failed", "supervisor_lost")}
"""How a run of each scenario ends, whoever dies meanwhile."""


def check(crashing: Crashing, job: dict, answer: dict) -> None:
    """The invariants, of one job."""
    where = f"{job['scenario']}, {job['victim']} killed at {job['trap']}"
    assert not answer.get("failed"), f"{where}\n{crashing.output.read_text()[-3000:]}"
    uid, scenario = answer["uid"], job["scenario"]
    told = f"{where}: { ({k: v for k, v in answer.items() if k != 'metrics'}) }"
    assert (answer["status"], answer["reason"]) == ENDS[scenario], told
    starts = crashing.oracle.count("start", uid)
    assert starts == 1 or (starts == 0 and scenario == "cancel"), f"{starts} starts; {told}"
    assert len(answer["events"]) == len(set(answer["events"])), told
    assert sum(new in {"Completed", "Failed", "Canceled"} for new in answer["events"]) == 1, told
    assert answer["agents"] == [], told
    if scenario == "complete":
        size, digest = Oracle.log(uid, LINES)
        assert (answer["log"]["size"], answer["log"]["sha256"], answer["log_complete"]) == (size, digest, True), told
        expected = {path: [*pair, ""] for path, pair in Oracle.artifacts(uid, LARGE).items()}
        assert answer["artifacts"] == expected, told
        assert answer["metrics"]["number"] == [LINES, LINES - 1], told
        made = [[f"child {number}", "Completed", 1, [1, number]] for number in range(CHILDREN)]
        assert answer["children"] == [*made, ["open", "Completed", 0, None]], told
        assert answer["models"] == 1, told
    names = [name for name, *_ in answer["children"]]
    assert len(names) == len(set(names)), told
    assert all(status in {"Completed", ENDS[scenario][0]} for _, status, *_ in answer["children"]), told
    if job["launcher"] == "docker":
        assert f"runstead-{answer['attempt']}" not in containers(), told
    if scenario != "lost":
        assert answer["log_complete"] is True or not answer["log"]["size"], told
        assert answer["left"] == [], told


def points(effects: dict[str, Counter], chosen) -> list[tuple[str, tuple[str, int]]]:
    """(scenario, (name, occurrence)): each once, and a second time where it comes again; later scenarios only what is new."""
    found, known = [], set()
    for scenario, counted in effects.items():
        for name, times in counted.items():
            if name not in known and chosen(name):
                found.append((scenario, (name, 1)))
                if times > 2:
                    found.append((scenario, (name, 2)))
        known |= counted.keys()
    return found


def sweep(crashing: Crashing, victim: str, chosen: list, measured: dict, what: str, **where) -> None:
    """Have the victim die at each of these points. One that another order of events passed by is gone for again."""
    left, back, turns = chosen, [], 0
    while left and turns < TURNS:
        turns += 1
        jobs = [crashing.job(scenario, victim, trap, **where) for scenario, trap in left]
        answers = crashing.carry_out(jobs)
        for job, answer in zip(jobs, answers, strict=True):
            check(crashing, job, answer)
        back += [answer["recovered"] for answer in answers if answer["recovered"] is not None]
        left = [point for point, answer in zip(left, answers, strict=True) if not answer["hit"]]
    measured[f"{what}: points, turns"] = f"{len(chosen)}, {turns}"
    if back:
        back.sort()
        measured[f"{what}: taken over after, median and longest"] = f"{back[len(back) // 2]:.1f} s, {back[-1]:.1f} s"
    assert not left, f"not reached in {turns} turns: {left}"


def test_the_list_holds_what_an_attendant_is_known_to_do(effects):
    names = set().union(*effects.values())
    for known in (
        "sent prepare",
        "answered launch",
        "sent watch",
        "sent cancel",
        "sent kill",
        "sent remove",
        "stored an object",
    ):
        assert known in names, sorted(names)
    assert sum(name.startswith("commit ") for name in names) >= 12, sorted(names)


def test_an_attendant_killed_after_each_of_its_side_effects(crashing, effects, measured):
    sweep(crashing, "attendant", points(effects, lambda name: True), measured, "attendant killed")


def asked(name: str) -> bool:
    return name.startswith(("sent ", "answered "))


def test_an_agent_killed_at_each_request_and_after_each_answer(crashing, effects, measured):
    sweep(crashing, "agent", points(effects, asked), measured, "agent killed")


def test_attendant_and_agent_of_another_machine_killed_at_each_request_and_after_each_answer(
    tmp_path_factory, effects, measured
):
    hosts = Hosts(tmp_path_factory.mktemp("hosts"), "rscrs", "10.79.5", 1).start()
    crashing = Crashing(tmp_path_factory.mktemp("crashing"), hosts.folder(1) / "oracle")
    try:
        chosen = [point for point in points(effects, asked) if point[1][1] == 1 or LONG]
        for victim in ("attendant", "agent"):
            sweep(crashing, victim, chosen, measured, f"{victim} killed, over SSH", hosts=hosts)
        until(lambda: not hosts.of_user(1), 15, what="processes stay on the machine")
    finally:
        crashing.close()
        hosts.stop()


def test_attendant_and_agent_killed_at_each_request_to_an_engine_and_after_each_answer(crashing, effects, measured):
    engine_or_skip()
    here = {name for counted in effects.values() for name in counted}
    engine = watched(crashing, launcher="docker")
    for known in ("sent engine POST /containers/create", "answered engine POST /containers/*/start"):
        assert known in engine["complete"], sorted(engine["complete"])
    chosen = points(engine, lambda name: asked(name) and name not in here and "/version" not in name)
    for victim in ("attendant", "agent"):
        sweep(crashing, victim, chosen, measured, f"{victim} killed, in containers", launcher="docker")
