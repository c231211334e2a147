"""What goes and what stays, over the real stream: live runs, waiting ones, contents answered for, environments in use."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from environments.agent import cleaning, space
from environments.agent.layout import Layout
from environments.host import Host, HostError
from environments.transports.local import LocalTransport
from tests.environments.agent.test_operations import blob, manifest, ship
from tests.waiting import until

DAY = 86400
KEEP_ALL = {"run_days": 7, "build_days": 7, "environment_days": 60, "cache_bytes": 1e12}


def age(path, days):
    """Make a folder and everything in it as old as that."""
    then = time.time() - days * DAY
    for place, folders, names in os.walk(path):
        for name in [*folders, *names]:
            with contextlib.suppress(FileNotFoundError):  # an agent works beside us
                os.utime(Path(place) / name, (then, then), follow_symlinks=False)
    os.utime(path, (then, then))


def over(runs, attempt, kind="runs"):
    """Wait for the end of a run and of its supervisor."""
    record, log = runs.finish(attempt, kind)
    until(lambda: {runs.host.inspect([attempt])[attempt][lock] for lock in ("sup", "job")} == {"free"})
    return record, log


def clean(runs, **wish):
    return runs.host.clean({**KEEP_ALL, **wish})


def environment(runs, days=0, size=5000):
    key = hashlib.sha256(os.urandom(8)).hexdigest()
    home = runs.root / "envs" / key
    (home / "abc").mkdir(parents=True)
    (home / "abc" / "lib").write_bytes(b"x" * size)
    (home / ".runstead.json").write_text(json.dumps({"python": sys.executable, "size": size}))
    age(home, days)
    return key


def gone(runs):
    """Nothing half removed is left anywhere."""
    return not [path for path in runs.root.rglob("*") if ".new-" in path.name or path.name.endswith(".gone")]


def test_ended_attempts_go_when_they_are_old_and_nobody_keeps_them(runs):
    old, fresh, kept = (runs.start(["/bin/sh", "-c", "echo x > outputs/a"]) for _ in range(3))
    for attempt in (old, fresh, kept):
        over(runs, attempt)
    age(runs.folder(old), 8)
    age(runs.folder(kept), 8)
    age(runs.folder(fresh), 6)
    done = clean(runs, keep_runs=[kept])
    assert done["removed"]["runs"] == [old]
    assert done["freed"] > 0
    assert done["failed"] == []
    assert sorted(runs.host.list()["runs"]) == sorted([fresh, kept])
    assert gone(runs)
    assert done["disk"]["total"] >= done["disk"]["free"] > 0


def test_a_build_goes_by_its_own_age(runs):
    spec = runs.spec([], kind="build", steps=[{"title": "x", "argv": ["/bin/true"], "env": {}, "cwd": "."}])
    runs.host.prepare("builds", spec["attempt"], spec, None)
    runs.host.launch([("builds", spec["attempt"])])
    over(runs, spec["attempt"], "builds")
    age(runs.folder(spec["attempt"], "builds"), 3)
    assert clean(runs, build_days=4)["removed"]["builds"] == []
    assert clean(runs, build_days=2)["removed"]["builds"] == [spec["attempt"]]


def test_a_live_run_stays_whatever_the_list_and_the_clock_say(runs):
    attempt = runs.python("import time; print('here', flush=True); time.sleep(60)")
    runs.wait_for_log(attempt, b"here")
    age(runs.folder(attempt), 400)
    done = clean(runs, run_days=0, build_days=0, environment_days=0, cache_bytes=0)
    assert (done["removed"]["runs"], done["live"]) == ([], 1)
    assert runs.survivors(attempt)
    runs.host.cancel("runs", attempt, 0)
    assert runs.exit(attempt)["reason"] == "canceled"


def test_a_run_whose_supervisor_was_killed_but_whose_script_lives_stays(runs):
    attempt = runs.python("import time; print('here', flush=True); time.sleep(60)")
    runs.wait_for_log(attempt, b"here")
    os.kill(runs.owner(attempt), 9)
    until(lambda: runs.host.inspect([attempt])[attempt]["sup"] == "free")
    assert runs.host.inspect([attempt])[attempt]["job"] == "held"
    age(runs.folder(attempt), 400)
    assert clean(runs)["live"] == 1
    runs.host.kill("runs", attempt)
    until(lambda: runs.host.inspect([attempt])[attempt]["job"] == "free")
    age(runs.folder(attempt), 400)
    assert clean(runs)["removed"]["runs"] == [attempt]


def test_a_prepared_run_waits_for_days_in_the_list_and_goes_only_when_nobody_knows_it(runs):
    waiting, unknown, young = (runs.prepare(["/bin/echo", "x"]) for _ in range(3))
    age(runs.folder(waiting), 30)
    age(runs.folder(unknown), 30)
    done = clean(runs, keep_runs=[waiting])
    assert done["removed"]["runs"] == [unknown]
    runs.host.launch([("runs", waiting)])
    assert runs.finish(waiting)[0]["reason"] == "exited"
    assert runs.folder(young).is_dir()


def test_who_cleans_a_prepared_run_has_claimed_it_so_that_a_late_launch_starts_nothing(runs):
    attempt = runs.prepare(["/bin/touch", str(runs.root / "started")])
    folder = runs.folder(attempt)
    assert cleaning._nobody_will_start(str(folder))
    runs.host.launch([("runs", attempt)])
    assert not cleaning._nobody_will_start(str(folder))
    age(folder, 30)
    assert clean(runs)["removed"]["runs"] == [attempt]
    assert not (runs.root / "started").exists()


def test_a_supervisor_that_is_about_to_claim_is_not_disturbed(runs):
    attempt = runs.prepare(["/bin/true"])
    lock = os.open(runs.folder(attempt) / "sup.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    age(runs.folder(attempt), 30)
    assert clean(runs)["removed"]["runs"] == []
    os.close(lock)
    assert clean(runs)["removed"]["runs"] == [attempt]


def test_launches_and_cleanings_that_race_start_each_run_or_remove_it_never_both(runs):
    marks = runs.root.parent / "marks"
    marks.mkdir()
    attempts = [runs.prepare(["/bin/sh", "-c", 'echo x >> "$0"', str(marks / str(n))]) for n in range(60)]
    for attempt in attempts:
        age(runs.folder(attempt), 30)
    removed = []

    def work():
        with Host(LocalTransport(), str(runs.root)) as other:
            for _ in range(20):
                removed.extend(other.clean(KEEP_ALL)["removed"]["runs"])

    thread = threading.Thread(target=work)
    thread.start()
    refused = set()
    for attempt in attempts:
        try:
            runs.host.launch([("runs", attempt)])
        except HostError as error:
            assert error.code == "not_prepared"
            refused.add(attempt)
    thread.join()
    until(lambda: all((runs.folder(a) / "exit.json").exists() or a in removed for a in attempts))
    ran = {attempts[int(name)] for name in (path.name for path in marks.iterdir())}
    # One that ended is old by no measure: what ran was not removed, what was removed never ran.
    assert ran.isdisjoint(removed)
    assert ran | set(removed) == set(attempts)
    assert refused <= set(removed)


def test_what_another_studio_laid_out_is_never_touched(runs):
    ours = runs.prepare(["/bin/true"], studio="one")
    theirs = runs.prepare(["/bin/true"], studio="two")
    for attempt in (ours, theirs):
        age(runs.folder(attempt), 400)
    done = clean(runs, studio="one")
    assert (done["removed"]["runs"], done["foreign"]) == ([ours], [theirs])
    assert runs.folder(theirs).is_dir()


def test_contents_least_recently_used_go_until_the_rest_fits(runs):
    data = [os.urandom(100_000) for _ in range(10)]
    digests = [hashlib.sha256(d).hexdigest() for d in data]
    runs.host.put_blobs([blob(d) for d in data])
    for days, digest in enumerate(digests):
        age(runs.root / "blobs" / digest[:2] / digest, 10 - days)
    done = clean(runs, cache_bytes=500_000)
    assert 5 <= done["removed"]["blobs"] <= 6
    left = set(digests) - set(runs.host.missing_blobs(digests))
    assert left == set(digests[done["removed"]["blobs"] :])
    assert sum(path.stat().st_size for path in (runs.root / "blobs").rglob("*") if path.is_file()) <= 500_000


def test_a_content_that_was_just_answered_for_stays_and_the_run_is_laid_out(runs):
    files = [("a", 0o644, os.urandom(50_000)), ("b", 0o644, b"b")]
    digest = ship(runs.host, files)
    age(runs.root / "blobs", 30)
    wanted = [hashlib.sha256(data).hexdigest() for _, _, data in files] + [digest]
    assert runs.host.missing_blobs(wanted) == []  # "have": from here on it must be there
    assert clean(runs, cache_bytes=0)["removed"]["blobs"] == 0
    attempt = runs.prepare(["/bin/true"], manifest=digest)
    assert (runs.folder(attempt) / "code" / "b").read_bytes() == b"b"


def test_a_content_that_was_cleaned_away_is_asked_for_again(runs):
    files = [("a", 0o644, os.urandom(50_000))]
    digest = ship(runs.host, files)
    age(runs.root / "blobs", 30)
    assert clean(runs, cache_bytes=0)["removed"]["blobs"] == 2
    with pytest.raises(HostError) as raised:
        runs.prepare(["/bin/true"], manifest=digest)
    assert raised.value.code == "blobs_missing"
    text, _ = manifest(files)
    runs.host.put_blobs([blob(text), blob(files[0][2])])
    runs.prepare(["/bin/true"], manifest=digest)


def test_layouts_and_cleanings_that_race_lay_out_whole_snapshots_or_ask_again(runs):
    files = [(f"f{n}", 0o644, os.urandom(2000)) for n in range(200)]
    digest = ship(runs.host, files)
    stop = threading.Event()

    def work():
        with Host(LocalTransport(), str(runs.root)) as other:
            while not stop.is_set():
                age(runs.root / "blobs", 30)  # as if an hour had passed, again and again
                other.clean({**KEEP_ALL, "cache_bytes": 0})

    thread = threading.Thread(target=work)
    thread.start()
    again = whole = 0
    until_when = time.monotonic() + 60
    while not (again and whole) and time.monotonic() < until_when:
        try:
            attempt = runs.prepare(["/bin/true"], manifest=digest)
        except HostError as error:
            assert error.code == "blobs_missing"
            again += 1
            ship(runs.host, files)
            continue
        for path, _, data in files:
            assert (runs.folder(attempt) / "code" / path).read_bytes() == data
        whole += 1
    stop.set()
    thread.join()
    assert again and whole


def test_half_sent_contents_go_after_a_day_unless_somebody_sends_them(runs, monkeypatch):
    data = os.urandom(3_000_000)
    digest = hashlib.sha256(data).hexdigest()
    runs.host.call("blobs.part", data[:1_000_000], digest=digest, offset=0, size=len(data))
    part = runs.root / "blobs" / digest[:2] / f"{digest}.part"
    assert part.exists()
    clean(runs)
    assert part.exists()
    # The kernel's own time of the last change cannot be set back, so the clock is set forward.
    now = time.time()
    monkeypatch.setattr(cleaning.time, "time", lambda: now + 2 * DAY)
    layout = Layout(str(runs.root))
    with part.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        cleaning.Cleaner(layout, KEEP_ALL).clean()
        assert part.exists()
    cleaning.Cleaner(layout, KEEP_ALL).clean()
    assert not part.exists()


def test_environments_nobody_used_go_unless_kept_or_named_by_a_run(runs):
    old, kept, recent, named = (
        environment(runs, 61),
        environment(runs, 61),
        environment(runs, 59),
        environment(runs, 61),
    )
    waiting = runs.prepare([str(runs.root / "envs" / named / "abc" / "bin" / "python")])
    done = clean(runs, keep_envs=[kept])
    assert done["removed"]["envs"] == [old]
    assert sorted(env["key"] for env in runs.host.envs()) == sorted([kept, recent, named])
    assert runs.folder(waiting).is_dir()
    assert done["freed"] >= 5000
    assert gone(runs)


def test_the_start_of_a_program_keeps_its_environment(runs):
    key = environment(runs, 61)
    program = runs.root / "envs" / key / "abc" / "program"
    shutil.copy("/bin/true", program)
    attempt = runs.start([str(program)])
    over(runs, attempt)
    runs.host.remove("runs", attempt)
    assert clean(runs)["removed"]["envs"] == []


def test_what_a_dead_builder_left_goes_after_a_builds_age(runs):
    key = "ab" * 32
    ruin = runs.root / "envs" / key
    (ruin / "123").mkdir(parents=True)
    (ruin / "123" / "x").write_text("x")
    clean(runs)
    assert ruin.exists()
    age(ruin, 8)
    assert clean(runs)["removed"]["envs"] == [key]


def test_package_caches_go_whole_and_never_beside_a_build(runs):
    for name, size in (("uv", 400_000), ("pip", 50_000)):
        (runs.root / "cache" / name).mkdir(parents=True)
        (runs.root / "cache" / name / "x").write_bytes(os.urandom(size))
    spec = runs.spec([], kind="build", steps=[{"title": "x", "argv": ["/bin/true"], "env": {}, "cwd": "."}])
    runs.host.prepare("builds", spec["attempt"], spec, None)
    assert clean(runs, cache_bytes=200_000)["removed"]["cache"] == []
    runs.host.launch([("builds", spec["attempt"])])
    over(runs, spec["attempt"], "builds")
    assert clean(runs, cache_bytes=200_000)["removed"]["cache"] == ["uv"]
    assert (runs.root / "cache" / "pip" / "x").exists()


def test_packages_that_an_environment_shares_with_its_cache_are_not_counted_as_space(runs):
    cache, env = runs.root / "cache" / "uv", runs.root / "envs" / ("cd" * 32)
    cache.mkdir(parents=True)
    env.mkdir(parents=True)
    (cache / "wheel").write_bytes(os.urandom(400_000))
    os.link(cache / "wheel", env / "module")
    assert clean(runs, cache_bytes=200_000)["removed"]["cache"] == []
    assert runs.host.usage(["cache"])["kinds"]["cache"]["bytes"] < 100_000


def test_old_programs_and_packages_go_and_those_in_use_stay(runs):
    runs.host.hello()  # the root is laid out
    lib, used = "11" * 32, "22" * 32
    for digest in (lib, used):
        (runs.root / "lib" / digest / "runstead").mkdir(parents=True)
        age(runs.root / "lib" / digest, 30)
    old = runs.root / "agent" / f"agent-{'33' * 32}.pyz"
    old.write_bytes(b"x")
    own = next(path for path in (runs.root / "agent").glob("*.pyz") if path != old)
    age(old, 30)
    age(own, 30)
    live = runs.python("import time; time.sleep(60)", env={"PYTHONPATH": f"/x:{runs.root}/lib/{used}"})
    until((runs.folder(live) / "state.json").exists)
    done = clean(runs)
    assert (done["removed"]["lib"], done["removed"]["agent"]) == ([lib], [])
    runs.host.cancel("runs", live, 0)
    over(runs, live)
    age(runs.root / "lib" / used, 30)
    done = clean(runs)
    assert (done["removed"]["lib"], done["removed"]["agent"]) == ([used], [old.name])
    assert own.exists()
    assert not runs.host.call("lib.has", digest=used)[0]["has"]


def test_a_supervisor_goes_on_when_its_program_is_removed(runs):
    """Whatever it still imports was loaded before: tracking, the ending, the record of a failure."""
    code = """
import os, sys, time, urllib.request, json
print('here', flush=True)
while not os.path.exists('go'): time.sleep(0.02)
data = json.dumps({'run_id': os.environ['MLFLOW_RUN_ID'], 'key': 'loss', 'value': 1.5, 'timestamp': 1, 'step': 1}).encode()
url = os.environ['MLFLOW_TRACKING_URI'] + '/api/2.0/mlflow/runs/log-metric'
headers = {'Content-Type': 'application/json', 'Authorization': 'Bearer ' + os.environ['MLFLOW_TRACKING_TOKEN']}
urllib.request.urlopen(urllib.request.Request(url, data, headers)).read()
raise ValueError('as it should')
"""
    tracking = {"run_id": "r1", "experiment_id": "1", "experiment": "e", "user": "ada"}
    attempt = runs.python(code, tracking=tracking)
    runs.wait_for_log(attempt, b"here")
    for program in (runs.root / "agent").glob("*.pyz"):
        program.unlink()
    (runs.folder(attempt) / "code" / "go").touch()
    record, _ = runs.finish(attempt)
    assert (record["reason"], record["error"]["message"]) == ("exit_code", "as it should")
    assert b'"loss"' in (runs.folder(attempt) / "records.jsonl").read_bytes()
    assert not (runs.folder(attempt) / "supervisor.err").exists()


def test_what_a_killed_cleaning_left_is_swept_and_nothing_of_it_is_listed(runs):
    ruins = [
        runs.root / "runs" / f".new-gone-{uuid.uuid4().hex}-1-1",
        runs.root / "envs" / f".new-gone-{'ab' * 32}-1-1",
    ]
    for ruin in ruins:
        ruin.mkdir(parents=True)
        (ruin / "data").write_bytes(b"x" * 10_000)
        (ruin / ".runstead.json").write_text(json.dumps({"python": sys.executable}))
    assert runs.host.envs() == []
    assert runs.host.list() == {"runs": [], "builds": []}
    clean(runs)
    assert all(ruin.exists() for ruin in ruins)  # perhaps somebody works there
    for ruin in ruins:
        age(ruin, 1)
    assert clean(runs)["freed"] >= 20_000
    assert gone(runs)


def test_a_folder_from_which_the_script_took_the_rights_goes_too(runs):
    attempt = runs.start(
        ["/bin/sh", "-c", "mkdir -p outputs/d/e && echo x > outputs/d/e/f && chmod 0 outputs/d/e outputs/d"]
    )
    over(runs, attempt)
    age(runs.folder(attempt), 8)
    done = clean(runs)
    assert (done["removed"]["runs"], done["failed"]) == ([attempt], [])
    assert gone(runs)


def test_two_cleanings_do_not_meet(runs):
    with (runs.root / "agent" / "clean.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(HostError) as raised:
            clean(runs)
    assert (raised.value.code, raised.value.permanent) == ("in_use", False)


@pytest.mark.parametrize(
    ("field", "value"),
    [("run_days", -1), ("run_days", "7"), ("cache_bytes", None), ("environment_days", True), ("keep_runs", "abc"),
     ("keep_envs", [1]), ("build_days", float("nan"))],
)  # fmt: skip
def test_a_wish_that_makes_no_sense_is_refused_by_its_field(runs, field, value):
    with pytest.raises(HostError, match=field) as raised:
        clean(runs, **{field: value})
    assert raised.value.code == "bad_request"


def test_usage_says_what_takes_the_space(runs):
    attempt = runs.start(["/bin/sh", "-c", "head -c 3000000 /dev/zero > outputs/a"])
    over(runs, attempt)
    runs.host.put_blobs([blob(os.urandom(200_000))])
    environment(runs, 3, size=777)
    found = runs.host.usage(list(space.ALL))
    kinds = found["kinds"]
    assert kinds["runs"]["count"] == 1
    assert 3_000_000 <= kinds["runs"]["bytes"] < 4_000_000
    assert (kinds["blobs"]["count"], kinds["envs"]["bytes"]) == (1, 777)
    assert kinds["agent"]["count"] >= 1
    assert 2.9 < (time.time() - kinds["envs"]["oldest"]) / DAY < 3.1
    assert all(kind["whole"] for kind in kinds.values())
    assert runs.host.usage([])["kinds"] == {}
    with pytest.raises(HostError, match="kinds"):
        runs.host.usage(["elsewhere"])


def test_usage_of_huge_folders_ends_in_time_and_says_that_there_is_more(runs):
    attempt = runs.prepare(["/bin/true"])
    for folder in range(40):
        place = runs.folder(attempt) / "code" / f"d{folder}"
        place.mkdir()
        for name in range(250):
            (place / str(name)).touch()
    begun = time.monotonic()
    found = runs.host.usage(["runs"], seconds=0.0)["kinds"]["runs"]
    assert time.monotonic() - begun < 1
    assert (found["whole"], found["count"]) == (False, 1)
