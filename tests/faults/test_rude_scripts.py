"""Scripts that do what scripts should not. The studio stays up, the log is byte-exact up to the cap, the end is right."""

import hashlib
import subprocess

import psutil
import pytest

from tests.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]
CAP = 64_000_000


def ended(studio, tmp_path, text: str, seconds: float = 120, **config) -> dict:
    folder = tmp_path / "rude"
    folder.mkdir()
    (folder / "train.py").write_text("import os, sys, time\nout = sys.stdout.buffer\n" + text)
    (row,) = studio.wait_for(studio.submit(folder, **config), seconds=seconds)
    return row


def kept(studio, row, expected: bytes) -> None:
    log = studio.control("log", id=row["id"])
    assert (log["size"], log["sha256"]) == (len(expected), hashlib.sha256(expected).hexdigest())
    assert row["log_complete"] is True


def test_one_line_of_a_gigabyte_is_cut_at_the_cap_and_says_so(capped, tmp_path):
    row = ended(capped, tmp_path, "for _ in range(1000):\n    out.write(b'x' * 1_000_000)\n")
    assert (row["status"], row["reason"]) == ("Completed", "exited"), row
    kept(capped, row, b"x" * CAP)
    assert capped.control("log", id=row["id"])["total"] == 1_000_000_000
    memory = max(p.memory_info().rss for kind in ("house", "worker", "web") for p in capped.processes(kind))
    assert memory < 600 * 1024**2, f"{memory:,} bytes"


def test_nul_half_utf8_and_escapes_are_kept_byte_for_byte(capped, tmp_path):
    data = b"\0\0a\xc3\n\xff\xfe\x1b[31mred\n" + "ü".encode()[:1] + b"\n\r\r\n<script>alert(1)</script>\n"
    row = ended(capped, tmp_path, f"out.write({data!r})\nout.flush()\n")
    assert row["status"] == "Completed"
    kept(capped, row, data)


def test_a_million_carriage_returns_are_kept(capped, tmp_path):
    row = ended(capped, tmp_path, "for n in range(1_000_000):\n    out.write(b'%7d\\r' % n)\nout.write(b'\\n')\n")
    kept(capped, row, b"".join(b"%7d\r" % n for n in range(1_000_000)) + b"\n")


def test_a_character_split_over_two_writes(capped, tmp_path):
    row = ended(capped, tmp_path, "os.write(1, b'\\xe2\\x82')\ntime.sleep(0.3)\nos.write(1, b'\\xac\\n')\n")
    kept(capped, row, "€\n".encode())
    assert capped.control("text", id=row["id"]) == "€\n"


def test_closing_stdout_does_not_end_the_run(capped, tmp_path):
    script = "os.write(1, b'before\\n')\nos.close(1)\nos.close(2)\ntime.sleep(1)\nopen('outputs/late.txt', 'w').write('late')\n"
    row = ended(capped, tmp_path, script + "os._exit(0)\n")
    assert (row["status"], row["reason"]) == ("Completed", "exited"), row
    kept(capped, row, b"before\n")
    assert [path for path, *_ in capped.control("artifacts", id=row["id"])] == ["outputs/late.txt"]


def test_a_child_that_holds_stdout_does_not_hold_the_run(capped, tmp_path):
    script = (
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        "        open('outputs/child.txt', 'w').write(str(os.getpid()))\n        time.sleep(600)\n    os._exit(0)\n"
        "while not (os.path.exists('outputs/child.txt') and os.path.getsize('outputs/child.txt')):\n    time.sleep(0.01)\n"
        "print('pid', open('outputs/child.txt').read(), flush=True)\n"
    )
    row = ended(capped, tmp_path, script, grace_seconds=1)
    assert (row["status"], row["reason"]) == ("Completed", "exited"), row
    child = int(capped.control("text", id=row["id"]).split()[1])
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE, 5)


def test_hostile_outputs_are_listed_and_not_collected(capped, tmp_path):
    script = (
        "os.symlink('/etc/passwd', 'outputs/passwd')\nos.mkfifo('outputs/pipe')\n"
        "os.symlink('/', 'outputs/root')\nopen('outputs/fine.txt', 'w').write('fine')\n"
    )
    row = ended(capped, tmp_path, script)
    found = {path: (digest, why) for path, _, digest, why in capped.control("artifacts", id=row["id"])}
    assert found["outputs/fine.txt"][0] == hashlib.sha256(b"fine").hexdigest()
    for name in ("outputs/passwd", "outputs/pipe", "outputs/root"):
        assert found[name][0] == "" and found[name][1], found


def test_records_replaced_by_a_pipe_do_not_stop_the_studio(capped, tmp_path):
    # Where runs are kept apart from the machine, the kernel refuses this already.
    script = (
        "path = os.environ['RUNSTEAD_RUN_DIR'] + '/records.jsonl'\n"
        "try:\n    os.unlink(path)\n    os.mkfifo(path)\nexcept OSError:\n    pass\nprint('done')\n"
    )
    row = ended(capped, tmp_path, script)
    assert row["status"] == "Completed"
    kept(capped, row, b"done\n")


def test_records_that_are_no_records_are_counted(capped, tmp_path):
    script = (
        "with open(os.environ['RUNSTEAD_RUN_DIR'] + '/records.jsonl', 'ab') as f:\n"
        '    f.write(b\'not json\\n\\xff\\xfe\\n[1]\\n{"k": 5}\\n\' + b\'[\' * 100000 + b\'\\n{"k": "x", "v": 1}\\n\')\n'
    )
    row = ended(capped, tmp_path, script)
    assert row["status"] == "Completed"
    assert row["bad_records"] == 5
    assert capped.control("metrics", id=row["id"]) == {"x": [1, 1.0]}


def test_program_that_does_not_exist_is_rejected_with_its_name(capped, tmp_path):
    row = ended(capped, tmp_path, "", script="", framework="command", command=["no-such-program"])
    assert (row["status"], row["reason"]) == ("Failed", "launch_rejected"), row
    assert "no-such-program" in row["error"]["message"]


def test_traceback_gives_type_message_and_line(capped, tmp_path):
    row = ended(capped, tmp_path, "print('one', flush=True)\nraise ValueError('batch must be even')\n")
    assert (row["status"], row["reason"], row["exit_code"]) == ("Failed", "exit_code", 1), row
    assert row["error"]["type"] == "ValueError"
    assert row["error"]["message"] == "batch must be even"
    line = capped.control("text", id=row["id"]).splitlines()[row["error"]["line"] - 1]
    assert line == "ValueError: batch must be even"


def test_disk_filled_by_the_script_is_named_and_the_studio_goes_on(capped, tmp_path):
    root = tmp_path / "small"
    root.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", root], capture_output=True, check=False
    ).returncode:
        pytest.skip("a small disk needs root, to mount one")
    try:
        target = capped.control("target", root=str(root))
        script = (
            "with open('fill', 'wb') as f:\n    while True:\n        f.write(b'x' * 1_000_000)\n        f.flush()\n"
        )
        row = ended(capped, tmp_path, script, target=target)
        assert (row["status"], row["reason"]) == ("Failed", "disk_full"), row
        folder = tmp_path / "after"
        folder.mkdir()
        (folder / "train.py").write_text("print('fine')\n")
        (after,) = capped.wait_for(capped.submit(folder))
        assert after["status"] == "Completed"
    finally:
        until(lambda: subprocess.run(["umount", "-l", root], capture_output=True, check=False).returncode == 0, 20)


def test_files_uploaded_by_name_come_home_also_below_outputs(capped, tmp_path):
    script = (
        "from runstead import Run\nrun = Run.get_context()\n"
        "open('a.txt', 'w').write('uploaded')\nopen('outputs/b.txt', 'w').write('written')\n"
        "run.upload_file('outputs/a.txt', 'a.txt')\nrun.upload_file('c.txt', 'a.txt')\n"
        # What a program logs by the name of a file that the script wrote itself does not replace it.
        "os.makedirs(os.environ['RUNSTEAD_RUN_DIR'] + '/artifacts/outputs')\n"
        "open(os.environ['RUNSTEAD_RUN_DIR'] + '/artifacts/outputs/b.txt', 'w').write('another')\n"
        "open(os.environ['RUNSTEAD_RUN_DIR'] + '/artifacts/outputs/d.txt', 'w').write('logged')\n"
    )
    row = ended(capped, tmp_path, script)
    assert row["status"] == "Completed", capped.control("text", id=row["id"])
    found = {path: size for path, size, digest, _ in capped.control("artifacts", id=row["id"]) if digest}
    assert found == {"c.txt": 8, "outputs/a.txt": 8, "outputs/b.txt": 7, "outputs/d.txt": 6}
