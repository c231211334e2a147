"""The commands about compute targets: `targets`, `attach`, `doctor`, `drain`, `resume`, `key`, `detach`."""

from __future__ import annotations

import argparse
import sys

from .errors import UserError
from .shell import add_json, print_json, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

    from .attach_arguments import AttachConfiguration
    from .compute import ComputeTarget, ComputeTargetException

ATTACH = """kinds:
  a remote machine      runstead attach gpu-box-3 --host gpu3.example.org --user ada --key ~/.ssh/id_ed25519
  Docker here           runstead attach box --docker --memory 16GB --cpus 4
  Docker, remote        runstead attach gpu-docker --docker --host gpu3.example.org --user ada --key ~/.ssh/id_ed25519
  a Spark cluster       runstead attach spark --spark spark://head:7077 --spark-home /opt/spark
  this machine          runstead attach scratch --root /scratch/runstead --slots 2

Without --key and --password the studio makes a key and prints the line to install there.
"""


def add(commands: Any) -> None:
    """Add the commands to those of `runstead`."""
    targets = commands.add_parser("targets", help="list the compute targets and the pools of them")
    add_json(targets, "everything the studio says about them")
    targets.set_defaults(call=_targets)
    _add_attach(commands)
    doctor = commands.add_parser(
        "doctor", help="test the connection to a target, or without one to the studio; exits with 0 when it passes"
    )
    doctor.add_argument("target", metavar="TARGET", nargs="?", help="its name; without one the studio is looked at")
    doctor.add_argument("--fingerprint", metavar="SHA256:…", help="trust the host key that has it from now on")
    doctor.add_argument("--jump-fingerprint", metavar="SHA256:…", help="the same of the jump host")
    add_json(doctor, "the steps as JSON")
    doctor.set_defaults(call=_doctor)
    for name, text in (("drain", "start nothing new on a target"), ("resume", "start runs on a target again")):
        parser = commands.add_parser(name, help=text)
        parser.add_argument("target", metavar="TARGET", help="its name")
        add_json(parser, "the target as JSON")
        parser.set_defaults(call=_drain if name == "drain" else _resume)
    key = commands.add_parser("key", help="print the key that the studio made for a target, or replace it")
    key.add_argument("target", metavar="TARGET", help="its name")
    add_json(key, "the key as JSON")
    how = key.add_mutually_exclusive_group()
    how.add_argument("--new", action="store_true", help="make another one and print the line to install there")
    how.add_argument("--use", action="store_true", help="sign in with the new one, if that works")
    key.set_defaults(call=_key)
    detach = commands.add_parser(
        "detach", help="take a target out of use, or remove a pool; nothing changes on the machines"
    )
    detach.add_argument("target", metavar="TARGET", help="its name")
    add_json(detach)
    runs = detach.add_mutually_exclusive_group()
    runs.add_argument(
        "--cancel-runs", dest="runs", action="store_const", const="cancel", help="cancel its runs and wait"
    )
    runs.add_argument(
        "--abandon-runs",
        dest="runs",
        action="store_const",
        const="abandon",
        help="give its runs up: the machine is gone",
    )
    detach.set_defaults(call=_detach)


def _add_attach(commands: Any) -> None:
    parser = commands.add_parser(
        "attach", help="attach a machine after testing it", epilog=ATTACH, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME", help="what the target is to be called")
    ssh = parser.add_argument_group("reached by SSH")
    ssh.add_argument("--host", help="name or address; without it, it is the studio's own machine")
    ssh.add_argument("--port", default="22")
    ssh.add_argument("--user", default="")
    ssh.add_argument("--key", default="", metavar="FILE", help="a private key, read here and sent to the studio once")
    ssh.add_argument("--passphrase", action="store_true", help="ask for the key's passphrase, or read it from stdin")
    ssh.add_argument("--password", action="store_true", help="ask for a password, or read it from stdin")
    ssh.add_argument("--fingerprint", metavar="SHA256:…", help="of the host key, as ssh-keygen -lf prints it there")
    ssh.add_argument("--jump", metavar="[USER@]HOST[:PORT]", help="a host to go through")
    ssh.add_argument("--jump-key", default="", metavar="FILE", help="its key, when it is another one")
    ssh.add_argument("--jump-fingerprint", metavar="SHA256:…", help="of its host key")
    ssh.add_argument("--sandbox", action="store_true", help="have the kernel keep runs apart from each other there")
    docker = parser.add_argument_group("Docker")
    docker.add_argument("--docker", action="store_true", help="a container for each run")
    docker.add_argument("--image", help="base image (default: python:{python}-slim)")
    docker.add_argument("--memory", metavar="16GB", help="the most a run may use")
    docker.add_argument("--cpus", type=float)
    docker.add_argument("--shm", metavar="2GB", help="size of /dev/shm")
    docker.add_argument("--pids", type=int, help="the most processes and threads of a run")
    docker.add_argument("--network", help="bridge (default), none, or a network's name")
    docker.add_argument("--mount", action="append", default=[], metavar="FROM:TO[:rw]", help="a folder that runs see")
    docker.add_argument("--socket", help="of the engine (default: /var/run/docker.sock)")
    spark = parser.add_argument_group("Spark")
    spark.add_argument("--spark", metavar="MASTER", help="spark://host:7077, yarn, k8s://… or local[*]")
    spark.add_argument("--spark-home", metavar="FOLDER", help="where Spark is installed there")
    spark.add_argument("--deploy-mode", choices=["client", "cluster"])
    spark.add_argument("--conf", action="append", default=[], metavar="NAME=VALUE", help="a setting of Spark")
    spark.add_argument("--packages", action="append", default=[], metavar="GROUP:ARTIFACT:VERSION")
    packages = parser.add_argument_group("where environments take packages from")
    packages.add_argument("--index-url", metavar="ADDRESS", help="a package index (default: the machine's own)")
    packages.add_argument("--extra-index-url", action="append", default=[], metavar="ADDRESS")
    packages.add_argument("--index-secret", metavar="NAME", help="the workspace's secret with user:password for them")
    packages.add_argument(
        "--find-links", action="append", default=[], metavar="FOLDER", help="a folder of wheels there"
    )
    packages.add_argument("--conda-channel", action="append", default=[], metavar="CHANNEL")
    packages.add_argument("--offline", action="store_true", help="ask nothing but what is named here")
    parser.add_argument("--root", metavar="FOLDER", help="where the studio's files lie there (by SSH: ~/.runstead)")
    parser.add_argument("--python", help="the Python of the studio's agent there (default: python3)")
    parser.add_argument("--slots", type=int, help="runs at once (default: one per GPU, else one per two processors)")
    parser.add_argument("--gpus", type=int, dest="gpu_slots", help="GPUs that runs may ask for (default: those found)")
    parser.add_argument("--anyway", action="store_true", help="attach although the connection test fails")
    add_json(parser, "the target as JSON")
    parser.set_defaults(call=_attach)


def _targets(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    from .compute import ComputeTarget

    found = ComputeTarget.list(_workspace())
    if options.json:
        return print_json([target.serialize() for target in found])
    rows = [("NAME", "KIND", "HEALTH", "SLOTS", "GPUS", "RUNNING", "WAITING")]
    for target in found:
        row = target.serialize()
        health = "Quarantined" if target.quarantine else str(target.status)
        room = (str(target.slots), str(target.gpus))
        rows.append((target.name, target.kind, health, *room, str(row["running"]), str(row["waiting"])))
    table(rows)
    return 0


def _attach(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    from .compute import ComputeTarget, ComputeTargetException, print_steps

    workspace = _workspace()
    given = _ssh_arguments(options)
    while True:
        config = _configuration(options, given).with_packages(
            options.index_url, options.extra_index_url, options.index_secret, options.find_links, options.conda_channel, options.offline
        )  # fmt: skip
        try:
            target = ComputeTarget.attach(workspace, options.name, config, anyway=options.anyway)
        except ComputeTargetException as error:
            field = "jump_host_key_fingerprint" if error.hop == "jump" else "host_key_fingerprint"
            if error.fingerprint and given.get(field) != error.fingerprint and _confirmed(error):
                given[field] = error.fingerprint
                continue
            if error.steps:
                print_steps(error.steps, sys.stderr)
            raise _in_words_of_the_shell(error) from None
        break
    if options.json:
        return print_json(target.serialize())
    print_steps(target.steps, sys.stdout)
    slots = "1 slot" if target.slots == 1 else "%d slots" % target.slots
    print("%s is attached: %s, %s. Send a run: --target %s" % (target.name, target.kind, slots, target.name))
    return 0


def _in_words_of_the_shell(error: ComputeTargetException) -> ComputeTargetException:
    for argument, option in (
        ("jump_host_key_fingerprint", "--jump-fingerprint"),
        ("host_key_fingerprint", "--fingerprint"),
    ):
        wanted = "%s=%r." % (argument, error.fingerprint)
        if error.message.endswith(wanted):
            return type(error)(error.message[: -len(wanted)] + "%s %s" % (option, error.fingerprint))
    return error


def _confirmed(error: ComputeTargetException) -> bool:
    """Ask, as ssh does; nobody is asked where nobody sits."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write("%s\nIs this the machine's own key (yes/no)? " % error.message.partition(" Compare ")[0])
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() == "yes"


def _ssh_arguments(options: argparse.Namespace) -> Dict[str, Any]:
    """The arguments of `attach_configuration` about SSH; secrets are asked for once."""
    if options.host is None:
        for name in ("user", "key", "fingerprint", "jump"):
            if getattr(options, name):
                raise UserError("--%s: it is for machines reached by SSH. Give --host too." % name)
        return {}
    given: Dict[str, Any] = {
        "address": options.host,
        "username": options.user or _account(),
        "ssh_port": options.port,
        "private_key_file": options.key,
        "host_key_fingerprint": options.fingerprint,
        "jump_private_key_file": options.jump_key,
        "jump_host_key_fingerprint": options.jump_fingerprint,
    }
    if options.password:
        given["password"] = _secret("Password")
    if options.passphrase:
        given["private_key_passphrase"] = _secret("Passphrase of the key")
    if options.jump:
        user, _, rest = options.jump.rpartition("@")
        host, _, port = rest.rpartition(":") if rest.rpartition(":")[2].isdigit() else (rest, "", "22")
        given.update(jump_address=host, jump_username=user, jump_port=port)
    return given


def _account() -> str:
    import getpass

    return getpass.getuser()


def _secret(prompt: str) -> str:
    import getpass

    return getpass.getpass(prompt + ": ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")


def _configuration(options: argparse.Namespace, ssh: Dict[str, Any]) -> AttachConfiguration:
    from .compute_kinds import DockerCompute, HDInsightCompute, LocalCompute, RemoteCompute

    common = {"root": options.root, "python": options.python, "slots": options.slots}
    if options.sandbox and (options.docker or options.spark or not ssh):
        raise UserError("--sandbox: it is for remote machines: a container is one already, and here it is always on.")
    if options.docker and options.spark:
        raise UserError("--spark: a target is a Docker engine or a Spark cluster, not both.")
    if options.docker:
        return DockerCompute.attach_configuration(
            base_image=options.image, memory=options.memory, cpus=options.cpus, shm_size=options.shm, pids=options.pids,
            network=options.network, mounts=options.mount, socket=options.socket, gpu_slots=options.gpu_slots, **common, **ssh,
        )  # fmt: skip
    for name in ("image", "memory", "cpus", "shm", "pids", "network", "mount", "socket"):
        if getattr(options, name):
            raise UserError("--%s: it is for Docker. Give --docker too." % name)
    if options.spark:
        return HDInsightCompute.attach_configuration(
            master=options.spark, spark_home=options.spark_home, deploy_mode=options.deploy_mode,
            conf=dict(_pair(text) for text in options.conf), packages=options.packages, gpu_slots=options.gpu_slots, **common, **ssh,
        )  # fmt: skip
    if ssh:
        return RemoteCompute.attach_configuration(gpu_slots=options.gpu_slots, sandbox=options.sandbox, **common, **ssh)
    return LocalCompute.attach_configuration(**common)


def _pair(text: str) -> List[str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UserError("--conf: %r needs the form NAME=VALUE." % text)
    return [name, value]


def _doctor(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    if options.target is None:
        return _doctor_of_the_studio(options)
    from .compute import ComputeTargetException

    target = _target(options)
    try:
        steps = target.test(options.fingerprint, options.jump_fingerprint)
    except ComputeTargetException as error:
        raise _in_words_of_the_shell(error) from None
    return _shown_steps(options, steps)


def _drain(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    target = _target(options)
    target.drain()
    if options.json:
        return print_json(target.serialize())
    print("%s: nothing new starts there; %d running." % (target.name, target.serialize()["running"]))
    return 0


def _resume(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    target = _target(options)
    target.resume()
    if options.json:
        return print_json(target.serialize())
    print("%s: runs start there again; %d waiting." % (target.name, target.serialize()["waiting"]))
    return 0


def _key(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    target = _target(options)
    if options.new:
        return _print_key(options, target.new_key())
    if options.use:
        target.use_new_key()
    if not target.public_key:
        raise UserError("%s is entered with a key or password of your own. Make one here: --new" % target.name)
    return _print_key(options, target.public_key)


def _print_key(options: argparse.Namespace, line: str) -> int:
    if options.json:
        return print_json({"target": options.target, "public_key": line})
    print(line)
    return 0


def _detach(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    target = _target(options)
    target.detach(options.runs)
    if options.json:
        return print_json({"target": target.name, "detached": True})
    if target.type == "AmlCompute":
        print("%s is removed. Its targets, and the runs on them, stay." % target.name)
    else:
        print("%s is detached. Its runs stay in the lists; nothing was changed on the machine." % target.name)
    return 0


def _workspace() -> Any:
    from .client import Workspace

    return Workspace.from_config()


def _target(options: argparse.Namespace) -> ComputeTarget:
    from .compute import ComputeTarget

    return ComputeTarget(_workspace(), options.target)


def _doctor_of_the_studio(options: argparse.Namespace) -> int:
    from .checkup import steps_of_the_studio

    steps = list(steps_of_the_studio())
    return _shown_steps(options, steps)


def _shown_steps(options: argparse.Namespace, steps: List[Dict[str, Any]]) -> int:
    from .compute import print_steps

    if options.json:
        print_json(steps)
    else:
        print_steps(steps, sys.stdout)
    return 0 if all(step["ok"] or not step["needed"] for step in steps) else 1
