"""What a build does on a target for Spark's executors. Standard library alone, Python 3.6 or newer; runs after ``on_target``.

The Python environment becomes one archive that Spark sends to its executors, and Spark's packages are resolved once: runs are
given files, and ask no repository. Both are noted in the result's ``extras``.
"""

import gzip
import json
import os
import re
import shutil
import stat
import sys
import tarfile
import tempfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

if TYPE_CHECKING or __package__:
    from environments.builders import on_target, target_run
    from environments.builders.target_run import Failed
else:
    import on_target
    import target_run
    from target_run import Failed

# One that compresses on is slower than the network that it spares.
LEVEL = 3
# Executors bring Spark's own jars, of their version.
LEFT_OUT = re.compile(r"(?:^|/)(?:__pycache__|pyspark/(?:jars|examples|licenses|data))$")
UNRESOLVED = re.compile(
    r"unresolved dependency: (?P<group>[^#\s]+)#(?P<name>[^;\s]+);(?P<version>[^:\s]+): (?P<why>.+?)\s*(?:\]|$)"
)


def main(arguments: "List[str]") -> int:
    verbs: "Dict[str, Callable[[], None]]" = {"jars": jars, "archive": archive}
    try:
        verbs[arguments[0]]()
        return 0
    except Failed as error:
        return on_target.failed(error)


# -- verbs ----------------------------------------------------------------------------------------------------------------


def jars() -> None:
    """Resolve the Spark packages of the environment and of the target, and keep their jars."""
    build, result = on_target.wish(), _result()
    packages, repositories = _both(build, "packages"), _both(build, "repositories")
    extras = result.get("extras") or {}
    if extras.get("jars_of") == packages and all(map(os.path.isfile, extras.get("jars") or [""])):
        print("Already here: %d jars" % len(extras["jars"]))
        return
    spark = build.get("spark") or {}
    program = _submit(str(spark.get("home") or ""), str(result["python"]))
    if program is None:
        if spark:
            raise Failed(
                "there is no spark-submit for the Spark packages. Correct the Spark home of the target, or take an environment "
                "with pyspark."
            )
        print("There is no spark-submit here: runs resolve the Spark packages themselves.")
        return
    own = _own_folder(build)
    ivy, folder = os.path.join(own, "ivy"), os.path.join(own, "jars")
    try:
        _resolve(program, packages, repositories, ivy, build)
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(os.path.join(ivy, "jars"), folder)
    finally:
        shutil.rmtree(ivy, ignore_errors=True)
    found = sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".jar"))
    size = sum(map(os.path.getsize, found))
    print("%d jars, %.1f MB" % (len(found), size / 1e6))
    _note(str(build["home"]), result, {"jars": found, "jars_of": packages}, size)


def archive() -> None:
    """Pack the environment for the executors. The same environment gives the same bytes."""
    build, result = on_target.wish(), _result()
    extras = result.get("extras") or {}
    if extras.get("archive") and os.path.isfile(extras["archive"]):
        print("Already here: %s" % extras["archive"])
        return
    prefix = os.path.dirname(os.path.dirname(str(result["python"])))
    path = os.path.join(_own_folder(build), "environment.tar.gz")
    pack(prefix, path)
    size = os.path.getsize(path)
    print("%s, %.1f MB" % (path, size / 1e6))
    outside = os.path.realpath(str(result["python"]))
    if not outside.startswith(os.path.realpath(prefix) + os.sep):
        print("Every worker needs Python %s at %s." % (result.get("version", ""), outside))
    _note(str(build["home"]), result, {"archive": path}, size)


# -- packages -------------------------------------------------------------------------------------------------------------


def _resolve(program: str, packages: "List[str]", repositories: "List[str]", ivy: str, build: "Dict[str, Any]") -> None:
    """Have spark-submit resolve packages into ``<ivy>/jars``, by running a script that does nothing."""
    spark = build.get("spark") or {}
    os.makedirs(ivy, 0o700, exist_ok=True)
    script = os.path.join(ivy, "nothing.py")
    with open(script, "w", encoding="utf-8"):
        pass
    conf = dict(spark.get("conf") or {})
    # Where packages come from, and by which proxy: nothing else of a cluster's settings matters to a script that does nothing.
    settings = {
        name: conf[name] for name in ("spark.jars.ivySettings", "spark.driver.extraJavaOptions") if name in conf
    }
    offline = bool((build.get("index") or {}).get("offline"))
    if offline and "spark.jars.ivySettings" not in settings:
        settings["spark.jars.ivySettings"] = _only(repositories, os.path.join(ivy, "settings.xml"))
    argv = [program, "--master", "local[1]", "--deploy-mode", "client", "--packages", ",".join(packages)]
    if repositories and not offline:
        argv += ["--repositories", ",".join(repositories)]
    settings.update({"spark.jars.ivy": ivy, "spark.ui.enabled": "false"})
    for name, value in sorted(settings.items()):
        argv += ["--conf", "%s=%s" % (name, value)]
    env = dict(os.environ, PYSPARK_PYTHON=sys.executable, PYSPARK_DRIVER_PYTHON=sys.executable)
    if spark.get("home"):
        env["SPARK_HOME"] = str(spark["home"])
    env.update(spark.get("variables") or {})
    folder = tempfile.gettempdir()
    env["SPARK_LOCAL_DIRS"] = folder
    env["SPARK_SUBMIT_OPTS"] = ('-Djava.io.tmpdir="%s" %s' % (folder, env.get("SPARK_SUBMIT_OPTS", ""))).strip()
    code, said = target_run.shown(argv + [script], env)
    if code == 0:
        return
    match = UNRESOLVED.search(said)
    if match is None:
        last = [line.strip() for line in said.splitlines() if line.strip()][-1:]
        raise Failed("spark-submit ended with exit code %d: %s" % (code, "".join(last) or "it said nothing"))
    where = ", ".join(repositories) if repositories else "Spark's own"
    if not offline and repositories:
        where += ", Spark's own"
    raise Failed(
        "the Spark package %s:%s:%s was not found (%s). Repositories asked: %s. Correct the coordinates, or name a repository that "
        "has it." % (match.group("group"), match.group("name"), match.group("version"), match.group("why"), where)
    )


def _only(repositories: "List[str]", path: str) -> str:
    """Ivy's settings by which these repositories are asked, and no other."""
    from xml.sax.saxutils import quoteattr

    if not repositories:
        raise Failed(
            "this target is offline, and no repository for Spark packages is named. Name one in the environment or in the target's "
            "Spark options, for example file:///srv/maven."
        )
    rows = [
        '<ibiblio name="named-%d" m2compatible="true" root=%s/>' % (place, quoteattr(address))
        for place, address in enumerate(repositories, 1)
    ]
    with open(path, "w", encoding="utf-8") as file:
        file.write('<ivysettings><settings defaultResolver="named"/><resolvers><chain name="named" returnFirst="true">')
        file.write("%s</chain></resolvers></ivysettings>" % "".join(rows))
    return path


def _submit(home: str, python: str) -> "Optional[str]":
    """spark-submit as a run finds it: the target's, else the environment's, else the machine's."""
    places = [os.path.join(home, "bin")] if home else [os.path.dirname(python), *os.get_exec_path()]
    for place in places:
        path = os.path.join(place, "spark-submit")
        if place and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


# -- archive --------------------------------------------------------------------------------------------------------------


def pack(prefix: str, path: str) -> None:
    """``prefix`` as a tar.gz, by rename: sorted names, no owners, no times."""
    draft = "%s.%d" % (path, os.getpid())
    try:
        with open(draft, "wb") as file:
            packed = gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=0)
            with packed, tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
                _add(tar, prefix, prefix, "")
            file.flush()
            os.fsync(file.fileno())
        os.rename(draft, path)
    except OSError:
        if os.path.exists(draft):
            os.unlink(draft)
        raise


def _add(tar: "tarfile.TarFile", prefix: str, folder: str, inside: str) -> None:
    for name in sorted(os.listdir(folder)):
        path, member = os.path.join(folder, name), inside + name
        if LEFT_OUT.search(member):
            continue  # byte code of files whose times are not kept would be made anew by each executor, and kept by none
        found = os.lstat(path)
        info = tarfile.TarInfo(member)
        info.mode = 0o755 if found.st_mode & stat.S_IXUSR else 0o644
        if stat.S_ISLNK(found.st_mode):
            link = _link(prefix, path, member)
            if link is None:
                found = os.stat(path)
            else:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, link, 0o777
                tar.addfile(info)
                continue
        if stat.S_ISDIR(found.st_mode):
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
            _add(tar, prefix, path, member + "/")
        elif stat.S_ISREG(found.st_mode):
            info.size = found.st_size
            with open(path, "rb") as file:
                tar.addfile(info, file)


def _link(prefix: str, path: str, member: str) -> "Optional[str]":
    """What a link says in the archive; None where the file is packed instead: it lies outside, and workers may not have it.

    Of the interpreter itself a worker has its own, at the same path: what it needs around it is not only one file.
    """
    target = os.readlink(path)
    if not os.path.isabs(target):
        return target
    if target.startswith(prefix + os.sep):
        return os.path.relpath(target, os.path.dirname(path))
    if member.startswith("bin/") or not os.path.exists(path) or os.path.isdir(path):
        return target
    return None


# -- what is asked and noted ----------------------------------------------------------------------------------------------


def _own_folder(build: "Dict[str, Any]") -> str:
    """Beside the environment, of this attempt alone."""
    path = os.path.join(str(build["home"]), "spark-" + str(build["attempt"])[:12])
    os.makedirs(path, 0o700, exist_ok=True)
    return path


def _result() -> "Dict[str, Any]":
    with open(on_target.result_path(), encoding="utf-8") as file:
        return dict(json.load(file))


def _both(build: "Dict[str, Any]", name: str) -> "List[str]":
    """Packages or repositories of the target and of the environment, each once, in their order."""
    parts = [(build.get("spark") or {}).get(name) or [], (build["definition"].get("spark") or {}).get(name) or []]
    return list(dict.fromkeys(one for part in parts for one in part))


def _note(home: str, result: "Dict[str, Any]", extras: "Dict[str, Any]", size: int) -> None:
    result["extras"] = dict(result.get("extras") or {}, **extras)
    result["size"] = int(result.get("size") or 0) + size
    on_target.write_json(os.path.join(home, on_target.MARKER), result)
    on_target.write_json(on_target.result_path(), result)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
