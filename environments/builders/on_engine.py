"""What the one step of an image's build does on the target. Standard library alone, Python 3.6 or newer.

Not a Dockerfile's build: packages are installed in a container that is then kept as an image, one layer above the base image. So
the package cache is shared by all builds, and addresses with passwords in them, given to the installer alone, are in no image.
"""

import hashlib
import json
import os
import signal
import sys
import time
from urllib.parse import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, NoReturn, Optional, Tuple

    from environments.agent import engine
    from environments.builders import on_target
else:
    import engine
    import on_target

Failed = on_target.Failed
KEY_LABEL, BASE_LABEL = "runstead.environment", "runstead.base"
BUILD_LABEL, ROOT_LABEL = "runstead.build", "runstead.root"
_REPOSITORY = "runstead/env"
_TOOLS = "/dev/shm/runstead"  # noqa: S108 in memory inside the container: nothing of it comes into the image
_PATIENCE = 600.0
_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
_WHERE = (
    "import sys, sysconfig; print('%d.%d.%d' % sys.version_info[:3]); print(sys.executable); "
    "print(sysconfig.get_path('purelib')); print(sysconfig.get_path('platlib'))"
)


def main() -> int:
    signal.signal(signal.SIGTERM, _canceled)
    build = Build(on_target.wish())
    try:
        build.make()
        return 0
    except Failed as error:
        sys.stdout.flush()
        sys.stderr.write("error: %s\n" % error)
        return 1
    except engine.Away as error:
        sys.stdout.flush()
        sys.stderr.write("error: %s\n" % error)
        return 1
    finally:
        build.end()


def _canceled(number: int, frame: object) -> "NoReturn":
    sys.exit(128 + number)


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def say(text: str) -> None:
    print(text)
    sys.stdout.flush()


class Build(object):
    """``wish``: ``build`` of the attempt's specification."""

    def __init__(self, wish: "Dict[str, Any]") -> None:
        self.wish = wish
        self.socket = wish["socket"]
        definition = wish["definition"]
        self.base = definition["base_image"] or wish["base_image"]
        self.packages = definition["packages"]
        self.uv = wish["tools"].get("uv") or ""
        # The same environment above another base image is another image.
        named = hashlib.sha256(json.dumps([wish["key"], self.base]).encode()).hexdigest()
        self.tag = named[:32]
        self.container = ""

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

    # -- from start to end

    def make(self) -> None:
        self.wait_for_engine()
        base = self.image(self.base)
        if base is None:
            raise Failed(
                "the image %s is not on this engine. Pull it there (docker pull %s), or name another base image."
                % (self.base, self.base)
            )
        say("Base image %s, %.0f MB, %s" % (self.base, base["Size"] / 1e6, base["Id"][7:19]))
        self.sweep()
        packages = self.packages
        ready = self.image("%s:%s" % (_REPOSITORY, self.tag)) if packages else base
        if ready is not None and packages and ready["Config"]["Labels"].get(BASE_LABEL) != base["Id"]:
            ready = None  # the base image is another one by now
        self.begin(ready or base)
        python, version = self.python()
        say("Python %s at %s" % (version, python))
        if ready is None:
            self.install(python, packages)
            lock = self.lock(python)
            ready = self.keep(base)
            say("%d packages, %.1f MB above the base image" % (lock.count("\n"), (ready["Size"] - base["Size"]) / 1e6))
        else:
            if packages:
                say("Already here, built %s" % ready["Created"][:16].replace("T", " "))
            lock = self.lock(python)
        result = {
            "python": python,
            "version": version,
            "lock": lock,
            "size": max(ready["Size"] - base["Size"], 0),
            "image": ready["Id"],
            "built_at": time.time(),
        }
        on_target.write_json(on_target.result_path(), result)

    def wait_for_engine(self) -> None:
        """An engine that is just being restarted fails no build."""
        end, told = time.monotonic() + _PATIENCE, False
        while True:
            try:
                self.need("the Docker engine refuses", "GET", "/version")
                return
            except engine.Away as error:
                if error.permanent or time.monotonic() > end:
                    raise
                if not told:
                    say("%s Waiting for it." % str(error).rstrip(".:") + ".")
                    told = True
            time.sleep(1)

    def image(self, name: str) -> "Optional[Dict[str, Any]]":
        status, answer = self.call("GET", "/images/%s/json" % name)
        if status == 404:
            return None
        if status >= 300:
            raise Failed("the image %s: %s" % (name, answer.get("message")))
        return dict(answer)

    def sweep(self) -> None:
        """Remove the containers of builders of this image that died."""
        labels = ["%s=%s" % (KEY_LABEL, self.tag), "%s=%s" % (ROOT_LABEL, self.wish["root"])]
        filters = quote(json.dumps({"label": labels}))
        for found in self.need("the engine's containers", "GET", "/containers/json?all=true&filters=%s" % filters):
            self.call("DELETE", "/containers/%s?force=true&v=true" % found["Id"])

    def begin(self, image: "Dict[str, Any]") -> None:
        """A container that does nothing by itself and ends by itself, should nobody end it."""
        mounts = []
        if self.packages:
            mounts = [{"Type": "volume", "Source": self.cache(), "Target": _TOOLS + "/cache"}]
            mounts += [_read_only(source, target) for source, target in self.files().items()]
        name = "runstead-build-%s" % self.wish["attempt"]
        config = {
            "Image": image["Id"],
            # What is kept as an image inherits an entry point of ours, unless it has one itself.
            "Entrypoint": ["sleep"] if image["Config"].get("Entrypoint") else None,
            "Cmd": ["10800"] if image["Config"].get("Entrypoint") else ["sleep", "10800"],
            "User": "0:0",
            "WorkingDir": "/",
            "Labels": {
                KEY_LABEL: self.tag,
                BUILD_LABEL: self.wish["attempt"],
                ROOT_LABEL: self.wish["root"],
            },
            "HostConfig": {
                "Mounts": mounts,
                "CapDrop": ["ALL"],
                "CapAdd": ["CHOWN", "DAC_OVERRIDE", "FOWNER"],
                "SecurityOpt": ["no-new-privileges"],
                "NetworkMode": self.wish["network"],
                "ShmSize": 1 << 30,
                "Init": False,
            },
        }
        self.call("DELETE", "/containers/%s?force=true&v=true" % name)
        self.need("no container could be made", "POST", "/containers/create?name=%s" % name, config)
        self.container = name
        self.need("the container could not be started", "POST", "/containers/%s/start" % name)

    def end(self) -> None:
        if self.container:
            try:
                self.call("DELETE", "/containers/%s?force=true&v=true" % self.container)
            except engine.Away:
                pass  # the next builder, or the studio's next connection, removes it

    # -- inside the container

    def run(self, argv: "List[str]", env: "Optional[Dict[str, str]]" = None, show: bool = False) -> "Tuple[int, bytes]":
        """Run a program in the container: its exit code and, unless it is shown as it comes, its output."""
        wish = {
            "AttachStdout": True,
            "AttachStderr": True,
            "Cmd": argv,
            "User": "0:0",
            "Env": ["%s=%s" % item for item in sorted((env or {}).items())],
        }
        number = self.need("the container refuses", "POST", "/containers/%s/exec" % self.container, wish)["Id"]
        body = json.dumps({"Detach": False, "Tty": False}).encode()
        response = engine.ask(self.socket, "POST", "/exec/%s/start" % number, body, timeout=7200)
        kept = b""
        while True:
            head = response.read(8)
            if len(head) < 8 or response.status >= 300:
                break
            piece = response.read(int.from_bytes(head[4:], "big"))
            if show:
                write_all(2 if head[0] == 2 else 1, piece)
            elif head[0] == 1:
                kept += piece
        if response.status >= 300:
            return 127, b""
        code = self.need("the container is gone", "GET", "/exec/%s/json" % number)["ExitCode"]
        if code is None:
            raise Failed("the container was ended from outside")
        return int(code), kept

    def python(self) -> "Tuple[str, str]":
        """Path and version of the image's interpreter that is asked for."""
        named = self.wish["definition"]["interpreter_path"]
        version = self.wish["definition"]["python_version"]
        names = [named] if named else ["python%s" % ".".join(version.split(".")[:2])] if version else []
        if not named:
            names += ["python3", "python"]
        found = ""
        for name in names:
            code, output = self.run([name, "-c", _WHERE])
            lines = output.decode("utf-8", "replace").splitlines()
            if code or len(lines) != 4 or not lines[0].startswith("3."):
                continue
            self.folders = sorted(set(lines[2:]))
            if not version or lines[0].split(".")[: version.count(".") + 1] == version.split("."):
                return (name if os.path.isabs(name) else lines[1]), lines[0]
            found = found or lines[0]
        if found:
            raise Failed("the image %s has Python %s, not %s. Name a base image with it." % (self.base, found, version))
        raise Failed("the image %s has no %s that answers. Name another base image." % (self.base, names[0]))

    def install(self, python: str, packages: "List[str]") -> None:
        env = self.settings()
        uv = self.uv and self.run([_TOOLS + "/uv", "--version"])[0] == 0
        plural = "package" if len(packages) == 1 else "packages"
        say("+ Install %d %s and what they need with %s" % (len(packages), plural, "uv" if uv else "pip"))
        if uv:
            offline = on_target.pip_settings().get("no-index", "").lower() in ("1", "true", "yes", "on")
            argv = [_TOOLS + "/uv", "pip", "install", "--python", python, "--break-system-packages"]
            argv += ["--no-index"] if offline else []
        else:
            argv = [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--no-compile"]
        code, _ = self.run([*argv, "--", *packages], env, show=True)
        if code:
            # The program has said why; anything more would hide its message.
            self.end()
            sys.exit(code if 0 < code < 256 else 1)
        # Runs are not this user: what is not compiled now would be compiled again by every run.
        self.run([python, "-m", "compileall", "-q", "-j", "0", "-x", r"[/\\]tests?[/\\]", *self.folders])

    def lock(self, python: str) -> str:
        output = self.run([python, "-c", on_target.LIST])[1].decode("utf-8", "replace").strip()
        return output + "\n" if output else ""

    def keep(self, base: "Dict[str, Any]") -> "Dict[str, Any]":
        """Make the container an image, with the base image's own settings."""
        config = base["Config"]
        labels = dict(config.get("Labels") or {})
        labels.update({KEY_LABEL: self.tag, BASE_LABEL: base["Id"], ROOT_LABEL: "", BUILD_LABEL: ""})
        kept = {
            name: config.get(name)
            for name in ("Env", "Cmd", "Entrypoint", "User", "WorkingDir", "ExposedPorts", "Volumes")
        }
        kept["Labels"] = labels
        target = "/commit?container=%s&repo=%s&tag=%s" % (self.container, _REPOSITORY, self.tag)
        number = self.need("the image could not be kept", "POST", target, kept)["Id"]
        found = self.image(number)
        if found is None:
            raise Failed("the image is gone as soon as it was made. Free some room on the engine's disk.")
        return found

    # -- what the installer is given

    def cache(self) -> str:
        """The volume that holds the package cache of this root's builds; not a folder, for it is written by root."""
        name = "runstead-cache-%s" % hashlib.sha256(self.wish["root"].encode()).hexdigest()[:12]
        labels = {ROOT_LABEL: self.wish["root"]}
        self.need("no volume could be made", "POST", "/volumes/create", {"Name": name, "Labels": labels})
        return name

    def files(self) -> "Dict[str, str]":
        """Files and folders of this machine that the installer needs: path here → path in the container."""
        found = {}
        if self.uv and os.path.isfile(self.uv):
            found[self.uv] = _TOOLS + "/uv"
        for name in _FILES:
            path = os.environ.get(name, "")
            if os.path.isfile(path):
                found[os.path.realpath(path)] = _TOOLS + "/authorities.pem"
                break
        for link in self.links():
            found[link] = _TOOLS + "/links/" + hashlib.sha256(link.encode()).hexdigest()[:12]
        return found

    def links(self) -> "List[str]":
        places = on_target.pip_settings().get("find-links", "").split()
        return [os.path.abspath(os.path.expanduser(place)) for place in places if _is_folder(place)]

    def settings(self) -> "Dict[str, str]":
        """Variables for the installer: what this machine is told about fetching packages, in the container's paths."""
        files = self.files()
        env = {
            name: value
            for name, value in os.environ.items()
            if name.startswith(("UV_", "PIP_"))
            or name.lower() in ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
        }
        pip = on_target.pip_settings()
        for name in ("index-url", "extra-index-url", "trusted-host", "timeout", "no-index", "pre", "prefer-binary"):
            if pip.get(name):
                env.setdefault("PIP_" + name.upper().replace("-", "_"), pip[name])
        env.update(on_target.uv_settings())
        places = [files.get(link, link) for link in self.links()]
        places += [link for link in pip.get("find-links", "").split() if "://" in link]
        for name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE", "PIP_FIND_LINKS", "UV_FIND_LINKS", "UV_SYSTEM_CERTS"):
            env.pop(name, None)  # paths of this machine
        if places:
            env.update(PIP_FIND_LINKS=" ".join(places), UV_FIND_LINKS=",".join(places))
        if _TOOLS + "/authorities.pem" in files.values():
            env.update((name, _TOOLS + "/authorities.pem") for name in _FILES)
        env.update(
            UV_CACHE_DIR=_TOOLS + "/cache/uv",
            PIP_CACHE_DIR=_TOOLS + "/cache/pip",
            UV_LINK_MODE="copy",
            UV_NO_PROGRESS="1",
            UV_PYTHON_DOWNLOADS="never",
            UV_NO_CONFIG="1",
            PIP_PROGRESS_BAR="off",
            PIP_BREAK_SYSTEM_PACKAGES="1",
            PIP_ROOT_USER_ACTION="ignore",
        )
        return env


def _read_only(source: str, target: str) -> "Dict[str, Any]":
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": True}


def _is_folder(link: str) -> bool:
    return "://" not in link and os.path.isdir(os.path.expanduser(link))


if __name__ == "__main__":
    sys.exit(main())
