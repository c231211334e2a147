"""PostgreSQL instead of SQLite: the same studio, its server restarted, killed, frozen and cut off while runs go on."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest

from tests import repeats
from tests.faults.conftest import Invariants, survivors
from tests.live import FINAL, ROOT, Studio, free_port
from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

LACKING = "PostgreSQL is started as the system user 'postgres': run as root on Debian, where it is installed when it is missing."
SUITES = [
    "tests/environments/test_lease.py",
    "tests/runs/test_pools.py",
    "tests/runs/test_queries.py",
    "tests/runs/test_lists.py",
    "tests/runs/test_metrics.py",
    "tests/runs/test_script_children.py",
    "tests/runs/test_silence.py",
    "tests/runs/test_logs_store.py",
    "tests/runs/test_logs_views.py",
    "tests/studio/test_blobs.py",
    "tests/runs/test_run_api.py",
    "tests/runs/test_registry_api.py",
    "tests/runs/test_upload_api.py",
    "tests/environments/test_environments_api.py",
    "tests/mlflow_server/test_search.py",
    "tests/studio/test_openapi.py",
]


class Server:
    """A PostgreSQL server of our own, whose files outlive a crash of it."""

    def __init__(self, folder: Path) -> None:
        self.env = {**os.environ, "INFRA_STATE": str(folder), "PG_PORT": str(free_port()), "PG_DURABLE": "1"}
        self.details: dict[str, str] = {}

    def call(self, verb: str) -> None:
        done = subprocess.run(
            [ROOT / "tests/infra/postgres.sh", verb], env=self.env, capture_output=True, text=True, timeout=300, check=False
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        self.details |= dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def start(self) -> "Server":
        self.call("start")
        return self

    def stop(self) -> None:
        self.call("stop")

    @property
    def url(self) -> str:
        return self.details["DATABASE_URL"]

    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(int(self.details["POSTGRES_PID"]))
        return [parent, *parent.children(recursive=True)]

    def signal(self, number: int) -> None:
        for process in self.processes():
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue

    def cut(self) -> int:
        """End every connection of the studio; how many there were."""
        import psycopg

        with psycopg.connect(self.url) as connection:
            found = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'runstead'"
            ).fetchone()
        return found[0]


@pytest.fixture(scope="module")
def server():
    if os.geteuid() != 0:
        pytest.fail(LACKING) if os.environ.get("CI") else pytest.skip(LACKING)
    folder = Path(tempfile.mkdtemp(prefix="runstead-pg-"))  # not below pytest's folder: the user postgres must reach it
    folder.chmod(0o755)
    running = Server(folder).start()
    yield running
    running.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def studio(server, tmp_path_factory):
    live = Studio(tmp_path_factory.mktemp("studio") / "data", RUNSTEAD_DATABASE_URL=server.url).start()
    live.control("slots", count=4)
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]
    until(lambda: not survivors(live.data_dir), 10, what="processes of this studio outlive it")


@pytest.fixture
def invariants(studio, oracle):
    return Invariants(studio, oracle)


def ten(studio, oracle, lines=120):
    """Ten runs: four running for about six seconds, the others waiting."""
    ids = studio.submit(oracle.folder, *oracle.arguments(lines=lines, every=0.05), count=10)
    # An attendant that is just coming back may see the first of them end at once.
    studio.wait_for(ids[:4], {"Running", *FINAL})
    return ids


def recovered(studio, ids) -> None:
    """Wait until bytes of a run are seen again that were not there before: seconds, not a minute's back-off."""
    began = time.monotonic()
    before = {pk: studio.control("size", id=pk) for pk in ids}
    until(lambda: any(studio.control("size", id=pk) > size for pk, size in before.items()), 60)
    seconds = time.monotonic() - began
    print(f"recovered after {seconds:.2f} s")
    assert seconds < 10


def test_first_start_and_runs_to_their_end(server, studio, oracle, invariants):
    assert "postgresql" in studio.output.read_text()
    ids = studio.submit(oracle.folder, *oracle.arguments(), count=5)
    studio.wait_for(ids)
    invariants.check(ids)


@pytest.mark.timeout(1500)
def test_suites_that_write_sql_pass_under_postgresql(server):
    env = {**os.environ, "RUNSTEAD_TEST_DATABASE_URL": server.url}
    env = {name: value for name, value in env.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", *SUITES], cwd=ROOT, env=env, capture_output=True, text=True, timeout=1440,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


def test_what_is_sent_twenty_times_at_once_is_made_once(studio, tmp_path):
    api = repeats.Api(studio)
    for maker in repeats.makers(studio, api, tmp_path / "project"):
        repeats.check(api, maker)


def test_a_run_whose_words_no_row_can_hold_ends_as_it_ended(studio, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "train.py").write_text(
        "import sys\nfrom runstead import Run\nrun = Run.get_context()\n"
        "run.tag('odd', 'a\\0b')\nrun.log('odd', 'c\\0d')\nprint('e\\0f', flush=True)\n"
        "sys.stderr.reconfigure(errors='surrogatepass')\nraise ValueError('g\\0h \\ud800 i')\n"
    )
    (row,) = studio.wait_for(studio.submit(folder))
    assert (row["status"], row["reason"], row["log_complete"]) == ("Failed", "exit_code", True), row
    assert "\0" not in str(row["error"]) and row["error"]["type"] == "ValueError"


def test_server_restarted_while_ten_runs_go_on(server, studio, oracle, invariants):
    ids = ten(studio, oracle)
    server.stop()
    time.sleep(3)  # the outage is what is tested
    server.start()
    recovered(studio, ids)
    studio.wait_for(ids, seconds=120)
    invariants.check(ids, lines=120)


def test_server_killed_while_ten_runs_go_on(server, studio, oracle, invariants):
    ids = ten(studio, oracle)
    server.signal(signal.SIGKILL)
    time.sleep(1)
    server.start()
    recovered(studio, ids)
    studio.wait_for(ids, seconds=120)
    invariants.check(ids, lines=120)


def test_every_connection_cut_again_and_again(server, studio, oracle, invariants):
    """The cuts fall into every phase of short runs: preparing, launching, applying, finishing, pages."""
    ids = studio.submit(oracle.folder, *oracle.arguments(lines=20, every=0.02), count=10)
    cuts, seen = 0, set()
    for number in range(12):
        time.sleep(0.2 + 0.17 * (number % 7))  # the moment of the cut is what is tested
        cuts += server.cut()
        until(studio.answers, 10)
        seen |= {row["status"] for row in studio.control("runs", ids=ids)}
    assert cuts >= 20 and len(seen) >= 3, f"the cuts met too little: {cuts}, {seen}"
    studio.wait_for(ids, seconds=60)
    invariants.check(ids)


def test_server_frozen_for_longer_than_a_lease(server, studio, oracle, invariants):
    ids = ten(studio, oracle)
    server.signal(signal.SIGSTOP)
    time.sleep(7)
    server.signal(signal.SIGCONT)
    recovered(studio, ids)
    studio.wait_for(ids, seconds=120)
    invariants.check(ids, lines=120)


def test_two_houses_and_three_reconcilers_race_for_the_same_targets(studio, oracle, invariants):
    """The attendant is killed again and again, so that its lease is always about to be taken by several."""
    more = [
        subprocess.Popen([sys.executable, "manage.py", *command], env=studio.env, cwd=ROOT)
        for command in (["reconcile", "--every", "0.05"], ["reconcile", "--every", "0.05"], ["work"])
    ]
    stop = threading.Event()

    def kill_houses():
        while not stop.wait(2.5):
            studio.kill("house")

    killer = threading.Thread(target=kill_houses)
    try:
        ids = studio.submit(oracle.folder, *oracle.arguments(lines=20, every=0.05), count=12)
        killer.start()
        until(lambda: sum(r["status"] == "Completed" for r in studio.control("runs", ids=ids)) >= 4, 90)
        stop.set()
        studio.wait_for(ids, seconds=90)
    finally:
        stop.set()
        killer.join()
        for process in more:
            process.terminate()
        for process in more:
            process.wait(timeout=30)
    invariants.check(ids)
