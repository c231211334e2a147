"""What a run can reach of the studio that runs it, as the same user: nothing."""

import json

import pytest

from tests.faults.test_rude_scripts import ended

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("rude"), pytest.mark.timeout(400)]
SCRIPT = """
import json, socket
data = os.environ["RUNSTEAD_RUN_DIR"].rsplit("/local/", 1)[0]
found = {"tier": json.load(open(os.environ["RUNSTEAD_RUN_DIR"] + "/state.json"))["isolation"], "read": [], "door": ""}
for name in ("studio.sqlite3", "studio.sqlite3-wal", "keys/secret-key", "keys/credentials-key", "keys/doorbell", "doorbell/valkey.conf"):
    try:
        open(data + "/" + name, "rb").read()
        found["read"].append(name)
    except OSError:
        pass
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        line = open("/proc/%s/cmdline" % pid).read()
        if data in line or ("/manage.py" in line and data in open("/proc/%s/environ" % pid).read()):
            open("/proc/%s/environ" % pid).read()
            found["read"].append(line.replace(chr(0), " "))
    except OSError:
        pass
door = socket.socket(socket.AF_UNIX)
try:
    door.connect(data + "/doorbell/valkey.sock")
    door.sendall(b"PUBLISH runstead:bell 1\\r\\n")
    found["door"] = door.recv(100).decode()
except OSError:
    pass
print(json.dumps(found))
"""


def test_a_run_in_the_sandbox_reaches_neither_rows_nor_keys_nor_the_doorbell(capped, tmp_path):
    row = ended(capped, tmp_path, SCRIPT, seconds=60)
    found = json.loads(capped.control("text", id=row["id"]))
    if found["tier"] != "landlock":
        pytest.skip("this kernel offers no sandbox")
    assert [name for name in found["read"] if "agent" not in name and "hashlib" not in name] == []
    assert found["door"] in {"", "-NOAUTH Authentication required.\r\n"}, found


def test_the_password_of_the_doorbell_is_in_no_argument_list(capped):
    password = (capped.data_dir / "keys" / "doorbell").read_text()
    (server,) = capped.processes("queue")
    assert password not in " ".join(server.cmdline())
    assert (capped.data_dir / "doorbell" / "valkey.conf").stat().st_mode & 0o777 == 0o600
