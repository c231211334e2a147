"""The container in which an image is made, and what is found in it. Standard library alone, Python 3.6."""

import hashlib
import json
import os
import sys
from urllib.parse import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional, Tuple

if TYPE_CHECKING or __package__:
    from environments.agent import engine
    from environments.builders import target_run
else:
    import engine
    import target_run

Failed = target_run.Failed
# An environment's image has the first three. Containers have the labels of their image, too: those of builds are known by a value.
KEY_LABEL, BASE_LABEL, OWNER_LABEL = "runstead.environment", "runstead.base", "runstead.owner"
LOCK_LABEL, DOCKERFILE_LABEL = "runstead.lock", "runstead.dockerfile"
BUILD_LABEL, ROOT_LABEL = "runstead.build", "runstead.root"
TOOLS = "/dev/shm/runstead"  # noqa: S108 in memory inside the container: nothing of it comes into the image
EXCHANGE = TOOLS + "/exchange"
KEPT = "/etc/runstead/environment.json"
"""What was found out when the image was made, inside it: whoever finds it there need not ask again."""
_SHOWN_END = 1 << 18
_WHERE = (
    "import sys, sysconfig; print('%d.%d.%d' % sys.version_info[:3]); print(sys.executable); "
    "print(sysconfig.get_path('purelib')); print(sysconfig.get_path('platlib'))"
)
_CONDA = ("/opt/conda", "/opt/miniconda3", "/opt/miniconda", "/opt/miniforge3", "/opt/mambaforge", "/opt/anaconda3", "/usr/local/conda",
          "/opt/micromamba", "/usr/local/miniconda3")  # fmt: skip


class Engine(object):
    """Questions to one engine; refusals as Failed."""

    def __init__(self, socket: str) -> None:
        self.socket = socket

    def call(
        self, method: str, target: str, value: "Optional[object]" = None, timeout: float = 300
    ) -> "Tuple[int, Any]":
        return engine.call(self.socket, method, target, value, timeout)

    def need(self, what: str, method: str, target: str, value: "Optional[object]" = None) -> "Any":
        """``call``, or Failed with what the engine says."""
        status, answer = self.call(method, target, value)
        if status >= 300 and status != 304:
            raise Failed("%s: %s" % (what, (answer or {}).get("message", "the engine answered %d" % status)))
        return answer

    def image(self, name: str) -> "Optional[Dict[str, Any]]":
        status, answer = self.call("GET", "/images/%s/json" % quote(name, safe="/:@"))
        if status == 404:
            return None
        if status >= 300:
            raise Failed("the image %s: %s" % (name, answer.get("message")))
        return dict(answer)

    def sweep(self, tag: str, root: str) -> None:
        """Remove the containers of builders of this image that died."""
        labels = ["%s=%s" % (KEY_LABEL, tag), "%s=%s" % (ROOT_LABEL, root)]
        filters = quote(json.dumps({"label": labels}))
        for found in self.need("the engine's containers", "GET", "/containers/json?all=true&filters=%s" % filters):
            if (found.get("Labels") or {}).get(BUILD_LABEL):  # and none of the runs in that image
                self.call("DELETE", "/containers/%s?force=true&v=true" % found["Id"])

    def cache(self, root: str) -> str:
        """The volume that holds the package cache of this root's builds; not a folder, for it is written by root."""
        name = "runstead-cache-%s" % hashlib.sha256(root.encode()).hexdigest()[:12]
        self.need("no volume could be made", "POST", "/volumes/create", {"Name": name, "Labels": {ROOT_LABEL: root}})
        return name


class Container(object):
    """A container that does nothing by itself and ends by itself, should nobody end it."""

    def __init__(self, engine: Engine, attempt: str) -> None:
        self.engine = engine
        self.attempt = attempt
        self.name = "runstead-build-%s" % attempt
        self.begun = False
        self.folders = []  # type: List[str]
        self.said = ""
        """The end of what the program said that was shown last."""

    def begin(self, image: "Dict[str, Any]", tag: str, root: str, network: str, mounts: "List[Dict[str, Any]]") -> None:
        config = {
            "Image": image["Id"],
            # What is kept as an image inherits an entry point of ours, unless it has one itself.
            "Entrypoint": ["sleep"] if image["Config"].get("Entrypoint") else None,
            "Cmd": ["10800"] if image["Config"].get("Entrypoint") else ["sleep", "10800"],
            "User": "0:0",
            "WorkingDir": "/",
            "Labels": {KEY_LABEL: tag, BUILD_LABEL: self.attempt, ROOT_LABEL: root},
            "HostConfig": {
                "Mounts": mounts,
                "CapDrop": ["ALL"],
                "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
                "SecurityOpt": ["no-new-privileges"],
                "NetworkMode": network,
                "ShmSize": 1 << 30,
                "Init": False,
            },
        }
        self.engine.call("DELETE", "/containers/%s?force=true&v=true" % self.name)
        self.begun = True
        self.engine.need("no container could be made", "POST", "/containers/create?name=%s" % self.name, config)
        status, answer = self.engine.call("POST", "/containers/%s/start" % self.name)
        if status >= 300 and status != 304:
            said = str((answer or {}).get("message", status))
            if "exec format error" in said:
                raise Failed(
                    "the image is made for %s, not for this machine's processor. Name another one."
                    % image.get("Architecture")
                )
            if "executable file not found" in said:
                raise Failed(
                    "the image has no program named sleep: it is not made to work in. Name another base image."
                )
            raise Failed("the container could not be started: %s" % said)

    def end(self) -> None:
        if self.begun:
            self.begun = False
            try:
                self.engine.call("DELETE", "/containers/%s?force=true&v=true" % self.name)
            except engine.Away:
                pass  # the next builder, or the studio's next connection, removes it

    def run(self, argv: "List[str]", env: "Optional[Dict[str, str]]" = None, show: bool = False) -> "Tuple[int, bytes]":
        """Run a program in the container: its exit code and, unless it is shown as it comes, its output."""
        wish = {
            "AttachStdout": True,
            "AttachStderr": True,
            "Cmd": argv,
            "User": "0:0",
            "WorkingDir": "/",
            "Env": ["%s=%s" % item for item in sorted((env or {}).items())],
        }
        number = self.engine.need("the container refuses", "POST", "/containers/%s/exec" % self.name, wish)["Id"]
        body = json.dumps({"Detach": False, "Tty": False}).encode()
        response = engine.ask(self.engine.socket, "POST", "/exec/%s/start" % number, body, timeout=7200)
        kept = b""
        said = b""
        while response.status < 300:
            head = response.read(8)
            if len(head) < 8:
                break
            piece = response.read(int.from_bytes(head[4:], "big"))
            if show:
                said = (said + piece)[-_SHOWN_END:]
                sys.stdout.flush()
                target_run.write_all(2 if head[0] == 2 else 1, piece)
            elif head[0] == 1:
                kept += piece
        if response.status >= 300:
            return 127, b""
        self.said = str(said, "utf-8", "replace")
        code = self.engine.need("the container is gone", "GET", "/exec/%s/json" % number)["ExitCode"]
        if code is None:
            raise Failed("the container was ended from outside")
        return int(code), kept

    def keep(self, below: "Dict[str, Any]", name: str, labels: "Dict[str, str]") -> "Dict[str, Any]":
        """Make the container an image, with the settings of the image below and its Path, where that was changed."""
        config = below["Config"]
        kept = {
            name: config.get(name)
            for name in ("Env", "Cmd", "Entrypoint", "User", "WorkingDir", "ExposedPorts", "Volumes")
        }
        kept["Labels"] = dict(config.get("Labels") or {}, **dict(labels, **{ROOT_LABEL: "", BUILD_LABEL: ""}))
        repository, _, tag = name.rpartition(":")
        target = "/commit?container=%s&repo=%s&tag=%s" % (self.name, repository, tag)
        status, answer = self.engine.call("POST", target, kept, 3600)
        if status >= 300:
            said = str((answer or {}).get("message", status))
            if "no space left" in said:
                raise Failed(
                    "the disk of the Docker engine is full; the image could not be kept. Free some space, then retry."
                )
            raise Failed("the image could not be kept: %s" % said)
        found = self.engine.image(answer["Id"])
        if found is None:
            raise Failed("the image is gone as soon as it was made. Free some room on the engine's disk.")
        return found

    # -- what is in it

    def python(self, names: "List[str]", version: str, image: str) -> "Tuple[str, str]":
        """Path and version of the first interpreter of these names that has this version (3.x, 3.x.y or empty: any)."""
        found = ""
        for name in names:
            code, output = self.run([name, "-c", _WHERE])
            lines = output.decode("utf-8", "replace").splitlines()
            if code or len(lines) != 4 or not lines[0].startswith("3."):
                continue
            if not version or lines[0].split(".")[: version.count(".") + 1] == version.split("."):
                self.folders = sorted(set(lines[2:]))
                return (name if os.path.isabs(name) else lines[1]), lines[0]
            found = found or lines[0]
        if found:
            raise Failed("the image %s has Python %s, not %s. Name a base image with it." % (image, found, version))
        raise Failed("the image %s has no %s that answers. Name another base image." % (image, names[0]))

    def conda_environment(self, named: str, image: str) -> str:
        """Prefix of a conda environment that the image has: an absolute path, a name, or "base"."""
        if os.path.isabs(named):
            places = [named]
        else:
            below = "" if named == "base" else "/envs/" + named
            places = [prefix + below for prefix in _CONDA]
        for place in places:
            if self.run(["test", "-x", place + "/bin/python"])[0] == 0:
                return place
        raise Failed(
            "the image %s has no conda environment %s with a Python. It was looked for at %s."
            % (image, named, ", ".join(places[:3]))
        )

    def ask(self, python: str, program: str, *arguments: str) -> str:
        """What a program of ours prints under an interpreter of the container; nothing where it fails."""
        code, output = self.run([python, "-c", program] + list(arguments))
        return output.decode("utf-8", "replace") if code == 0 else ""


def read_only(source: str, target: str) -> "Dict[str, Any]":
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}
