"""What the one step of an image's build does on the target. Standard library alone, Python 3.6 or newer.

The layers, from below: the base image (pulled where it is not there, or built from a Dockerfile), conda packages, pip packages. So a
changed package rebuilds what is above it. Packages are not installed by a Dockerfile but in a container that is then kept as an image:
the package cache is shared by all builds, and addresses with passwords in them, given to the installer alone, are in no image.
"""

import hashlib
import json
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, NoReturn, Optional, Tuple

if TYPE_CHECKING or __package__:
    from environments.agent import engine
    from environments.builders import (
        engine_container,
        engine_images,
        engine_packages,
        engine_settings,
        on_target,
        target_describe,
        target_run,
    )
else:
    import engine
    import engine_container
    import engine_images
    import engine_packages
    import engine_settings
    import on_target
    import target_describe
    import target_run

Failed = target_run.Failed
KEY_LABEL, BASE_LABEL, OWNER_LABEL = (
    engine_container.KEY_LABEL,
    engine_container.BASE_LABEL,
    engine_container.OWNER_LABEL,
)
LOCK_LABEL = engine_container.LOCK_LABEL
_REPOSITORY, _DOCKERFILES = "runstead/env", "runstead/dockerfile"
_PATIENCE = 600.0
_KEEP = """
import os, shutil, sys
os.makedirs(os.path.dirname(sys.argv[2]), exist_ok=True)
shutil.copyfile(sys.argv[1], sys.argv[2])
os.chmod(sys.argv[2], 0o644)
"""


def main() -> int:
    signal.signal(signal.SIGTERM, _canceled)
    secrets = [os.environ.pop(name, "") for name in ("RUNSTEAD_REGISTRY_AUTH", "RUNSTEAD_INDEX_AUTH")]
    build = Build(on_target.wish(), studio(), *secrets)
    try:
        build.make()
        return 0
    except (Failed, engine.Away) as error:
        sys.stdout.flush()
        sys.stderr.write("error: %s\n" % error)
        return 1
    finally:
        build.container.end()


def _canceled(number: int, frame: object) -> "NoReturn":
    sys.exit(128 + number)


def studio() -> str:
    with open(os.path.join(os.environ["RUNSTEAD_RUN_DIR"], "spec.json"), encoding="utf-8") as file:
        return str(json.load(file).get("studio") or "")


def say(text: str) -> None:
    print(text)
    sys.stdout.flush()


class Build(object):
    """``wish``: ``build`` of the attempt's specification; ``studio``: whose it is; the others: "user:password", or empty."""

    def __init__(self, wish: "Dict[str, Any]", studio: str, registry_auth: str, index_auth: str) -> None:
        self.wish = wish
        self.definition = wish["definition"]
        self.index_auth = index_auth
        self.credentials = engine_images.Credentials(self.definition["registry"], registry_auth)
        self.engine = engine_container.Engine(wish["socket"])
        self.container = engine_container.Container(self.engine, wish["attempt"])
        self.owner = "%s:%s" % (studio, wish["root"])
        self.name = self.definition["base_image"] or wish["base_image"]
        self.packages = self.definition["packages"]
        below = (
            hashlib.sha256(self.definition["dockerfile"].encode()).hexdigest()
            if self.definition["dockerfile"]
            else self.name
        )
        # The same environment above another base image is another image, and so is that of another studio.
        self.tag = _digest([wish["key"], below, self.owner])[:32]
        self.named = {}  # type: Dict[str, str]
        """Images by the names under which the engine had them when they were used."""

    def make(self) -> None:
        self.wait_for_engine()
        base = self.dockerfile() if self.definition["dockerfile"] else self.base()
        self.engine.sweep(self.tag, self.wish["root"])
        as_it_is = self.definition["user_managed"] or self.definition["conda_environment"] or not self.packages
        result = self.found(base) if as_it_is else self.with_packages(base)
        on_target.write_json(on_target.result_path(), target_describe.fitted(result))

    # -- the image below

    def wait_for_engine(self) -> None:
        """An engine that is just being restarted fails no build."""
        end, told = time.monotonic() + _PATIENCE, False
        while True:
            try:
                self.engine.need("the Docker engine refuses", "GET", "/version")
                return
            except engine.Away as error:
                if error.permanent or time.monotonic() > end:
                    raise
                if not told:
                    say("%s Waiting for it." % str(error).rstrip(".:") + ".")
                    told = True
            time.sleep(1)

    def base(self) -> "Dict[str, Any]":
        """The image that is named, pulled where the engine does not have it."""
        found = self.engine.image(self.name)
        if found is None:
            if (self.wish.get("index") or {}).get("offline") and engine_images.registry_of(
                self.name
            ) == engine_images.HUB:
                raise Failed(
                    "the image %s is not on this engine, and this target is offline. Load it there (docker load), or name one that is."
                    % self.name
                )
            engine_images.pull(self.engine.socket, self.name, self.credentials, say)
            found = self.engine.image(self.name)
        if found is None:
            raise Failed("the image %s was pulled and is gone again. Free some room on the engine's disk." % self.name)
        say("Base image %s, %.0f MB, %s" % (self.name, found["Size"] / 1e6, found["Id"][7:19]))
        self.named[self.name] = found["Id"]
        return found

    def dockerfile(self) -> "Dict[str, Any]":
        """The image that the definition's Dockerfile makes; its steps are cached by the engine."""
        text = self.definition["dockerfile"]
        digest = _digest([text, self.owner])[:32]
        labels = {OWNER_LABEL: self.owner, engine_container.DOCKERFILE_LABEL: digest}
        build, began = engine_images.Dockerfile(text, labels, say), time.time()
        made = build.build(self.engine.socket, "%s:%s" % (_DOCKERFILES, digest), self.wish["network"], self.credentials)
        found = self.engine.image(made)
        if found is None:
            raise Failed(
                "the image of the Dockerfile is gone as soon as it was made. Free some room on the engine's disk."
            )
        for name in engine_images.bases(text):
            below = self.engine.image(name)
            if below is not None:
                self.named[name] = below["Id"]
        say("Image of the Dockerfile, %.0f MB, %s, in %.1f s" % (found["Size"] / 1e6, made[7:19], time.time() - began))
        self.name = "of the Dockerfile"
        return found

    # -- as it is, or with packages

    def found(self, base: "Dict[str, Any]") -> "Dict[str, Any]":
        """The image as it is: what its Python has."""
        self.container.begin(base, self.tag, self.wish["root"], self.wish["network"], [])
        python, version = self.python()
        packages = engine_packages.Packages(self.container, self.settings(), python, [], "")
        listed = packages.describe()
        say("%d packages" % len(listed))
        return self.result(
            base, base, {"python": python, "version": version, "platform": packages.platform, "packages": listed}
        )

    def with_packages(self, base: "Dict[str, Any]") -> "Dict[str, Any]":
        settings = self.settings()
        name = "%s:%s" % (_REPOSITORY, self.tag)
        # What the definition names itself counts with what is in it.
        own = base["Id"][7:19] if self.definition["base_image"] or self.definition["dockerfile"] else ""
        locks = self.wish.get("locks") or {}
        ready = self.engine.image(name)
        if ready is not None:
            labels = ready["Config"].get("Labels") or {}
            known = self.kept(ready) if labels.get(BASE_LABEL) == base["Id"] else None
            if known and locks.get(known["platform"], known["lock_text"]) == known["lock_text"]:
                say("Already here, built %s" % ready["Created"][:16].replace("T", " "))
                return self.result(base, ready, known)
            self.container.end()
        mounts = settings.mounts(self.engine.cache(self.wish["root"]))
        self.container.begin(base, self.tag, self.wish["root"], self.wish["network"], mounts)
        python, version = self.python()
        packages = engine_packages.Packages(self.container, settings, python, self.packages, own)
        lock = packages.install(locks)
        listed = packages.describe()
        known = {
            "python": python, "version": version, "platform": packages.tag, "lock_text": lock, "packages": listed,
        }  # fmt: skip
        on_target.write_json(os.path.join(settings.exchange, "environment.json"), known)
        self.container.run(
            [python, "-c", _KEEP, engine_container.EXCHANGE + "/environment.json", engine_container.KEPT]
        )
        labels = {KEY_LABEL: self.tag, BASE_LABEL: base["Id"], OWNER_LABEL: self.owner}
        ready = self.container.keep(base, name, labels)
        say("%d packages, %.1f MB above the base image" % (len(listed), (ready["Size"] - base["Size"]) / 1e6))
        return self.result(base, ready, known)

    def kept(self, ready: "Dict[str, Any]") -> "Optional[Dict[str, Any]]":
        """What was noted in an image when it was made; None where it does not say."""
        self.container.begin(ready, self.tag, self.wish["root"], self.wish["network"], [])
        code, output = self.container.run(["cat", engine_container.KEPT])
        try:
            found = json.loads(output.decode("utf-8")) if code == 0 else None
        except ValueError:
            found = None
        return found if isinstance(found, dict) and found.get("python") else None

    def result(self, base: "Dict[str, Any]", ready: "Dict[str, Any]", known: "Dict[str, Any]") -> "Dict[str, Any]":
        digests = base.get("RepoDigests") or []
        return {
            "python": known["python"],
            "version": known["version"],
            "platform": known["platform"],
            "lock_text": known.get("lock_text", ""),
            "lock": target_describe.lines(known["packages"]),
            "packages": known["packages"],
            "size": max(ready["Size"] - base["Size"], 0),
            "image": ready["Id"],
            "extras": {"base": {"id": base["Id"], "digest": digests[0] if digests else "", "named": self.named}},
            "built_at": time.time(),
        }

    def python(self) -> "Tuple[str, str]":
        """The interpreter that is asked for: its path and version."""
        named, version = self.definition["interpreter_path"], self.definition["python_version"]
        if self.definition["conda_environment"]:
            prefix = self.container.conda_environment(self.definition["conda_environment"], self.name)
            names = [prefix + "/bin/python"]
        elif named:
            names = [named]
        else:
            names = (["python" + ".".join(version.split(".")[:2])] if version else []) + ["python3", "python"]
        found = self.container.python(names, version, self.name)
        say("Python %s at %s" % (found[1], found[0]))
        return found

    def settings(self) -> engine_settings.Settings:
        exchange = os.path.join(os.environ["RUNSTEAD_RUN_DIR"], "tmp", "exchange")
        os.makedirs(exchange, 0o700, exist_ok=True)
        return engine_settings.Settings(self.wish, self.index_auth, exchange)


def _digest(parts: "List[str]") -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
