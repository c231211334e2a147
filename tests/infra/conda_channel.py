#!/usr/bin/env python3
"""A real channel in the formats of conda, in a folder: its packages are those of the tests, its Python is one of this machine.

    conda_channel.py FOLDER [PYTHON]

makes ``FOLDER/{noarch,<platform>}/`` with archives (``.conda`` and ``.tar.bz2``) and ``repodata.json``. ``PYTHON`` (default: the one
below this program's environment) must be relocatable, as those of pyenv, uv, conda and Debian are. Needs zstandard.
"""

import bz2
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

# Longer than any folder below which the tests install: an installer writes the new path into its place, padded in binary files.
PLACEHOLDER = "/opt/placehold" + "_placehold" * 20
_LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "site-packages", "dist-packages",
             "EXTERNALLY-MANAGED"}  # fmt: skip
# Runs below the Python that is packed.
_WHERE = """
import json, sys, sysconfig
v = sysconfig.get_config_vars()
print(json.dumps({"version": "%d.%d.%d" % sys.version_info[:3], "base": sys.base_prefix, "stdlib": sysconfig.get_path("stdlib"),
    "dynload": sysconfig.get_config_var("DESTSHARED"), "libdir": v.get("LIBDIR") or "", "library": v.get("INSTSONAME") or "",
    "shared": bool(v.get("Py_ENABLE_SHARED")), "program": getattr(sys, "_base_executable", "") or sys.executable}))
"""


@dataclass
class Package:
    """One build of one version. ``files``: path inside the environment → content, or a file on this machine."""

    name: str
    version: str
    files: dict[str, "bytes | Path"] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    constrains: tuple[str, ...] = ()
    noarch: str = ""
    """``python``: its files lie below ``site-packages`` and ``python-scripts``, and are linked to where that Python has them."""
    entry_points: tuple[str, ...] = ()
    license: str = "MIT"
    number: int = 0
    form: str = ".conda"
    links: dict[str, str] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)
    """Of files that hold the placeholder: path → ``text`` or ``binary``."""
    programs: tuple[str, ...] = ()

    @property
    def build(self) -> str:
        return f"py_{self.number}" if self.noarch else f"h0_{self.number}"

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}-{self.build}{self.form}"


def subdir() -> str:
    """Conda's name of this platform."""
    machine = platform.machine().lower()
    if sys.platform == "darwin":
        return "osx-arm64" if machine == "arm64" else "osx-64"
    return {"x86_64": "linux-64", "amd64": "linux-64"}.get(machine, f"linux-{machine}")


def make_channel(folder: Path, packages: "list[Package]") -> Path:
    """Write the archives and the index of a channel; return its folder. One that is there gets these packages as well."""
    for place in ("noarch", subdir()):
        (folder / place).mkdir(parents=True, exist_ok=True)
    for package in packages:
        place = folder / ("noarch" if package.noarch else subdir())
        write(place, package)
    return folder


def write(place: Path, package: Package) -> Path:
    """One archive, and its entry in ``repodata.json`` beside it."""
    index: dict[str, Any] = {
        "name": package.name, "version": package.version, "build": package.build, "build_number": package.number,
        "depends": list(package.depends), "constrains": list(package.constrains), "license": package.license,
        "subdir": place.name, "timestamp": 1700000000000,
    }  # fmt: skip
    if package.noarch:
        index["noarch"] = package.noarch
    else:
        index |= {"platform": place.name.split("-")[0], "arch": platform.machine()}
    data = archive(package, index)
    path = place / package.file_name
    path.write_bytes(data)
    entry = {
        **index,
        "md5": hashlib.md5(data, usedforsecurity=False).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }
    listed = place / "repodata.json"
    repodata = json.loads(listed.read_text()) if listed.exists() else empty(place.name)
    repodata["packages.conda" if package.form == ".conda" else "packages"][package.file_name] = entry
    listed.write_text(json.dumps(repodata, indent=1))
    for other in {"noarch", subdir()} - {place.name}:
        beside = place.parent / other
        beside.mkdir(exist_ok=True)
        if not (beside / "repodata.json").exists():
            (beside / "repodata.json").write_text(json.dumps(empty(other), indent=1))
    return path


def empty(name: str) -> dict[str, Any]:
    return {"info": {"subdir": name}, "packages": {}, "packages.conda": {}, "removed": [], "repodata_version": 1}


def archive(package: Package, index: Mapping[str, Any]) -> bytes:
    """The bytes of a package in the format that its name says."""
    files = {name: data if isinstance(data, bytes) else data.read_bytes() for name, data in package.files.items()}
    about = {"summary": f"{package.name} of the tests", "license": package.license}
    info = {
        "info/index.json": json.dumps(index),
        "info/about.json": json.dumps(about),
        "info/paths.json": json.dumps({"paths": list(paths(package, files)), "paths_version": 1}),
        "info/files": "".join(f"{name}\n" for name in sorted([*files, *package.links])),
    }
    if package.noarch == "python":
        noarch: dict[str, Any] = {"type": "python", "entry_points": list(package.entry_points)}
        info["info/link.json"] = json.dumps({"noarch": noarch, "package_metadata_version": 1})
    inside = {name: text.encode() for name, text in info.items()}
    if package.form != ".conda":
        return bz2.compress(tar(package, {**inside, **files}, package.links), 1)
    stem = package.file_name.removesuffix(".conda")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as file:
        file.writestr("metadata.json", json.dumps({"conda_pkg_format_version": 2}))
        for part, members, links in (("pkg", files, package.links), ("info", inside, {})):
            file.writestr(f"{part}-{stem}.tar.zst", zstandard.compress(tar(package, members, links), 3))
    return packed.getvalue()


def paths(package: Package, files: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
    for name, data in files.items():
        entry = {
            "_path": name,
            "path_type": "hardlink",
            "size_in_bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
        }
        if name in package.prefixes:
            entry |= {"prefix_placeholder": PLACEHOLDER, "file_mode": package.prefixes[name]}
        yield entry
    for name, target in package.links.items():
        content = files[os.path.normpath(os.path.join(os.path.dirname(name), target))]
        yield {
            "_path": name,
            "path_type": "softlink",
            "size_in_bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }


def tar(package: Package, files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as file:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            source = package.files.get(name)
            # As in packages of conda-forge, compiled files fit their sources: nobody has to compile them again.
            member.mtime = int(source.stat().st_mtime) if isinstance(source, Path) else 1700000000
            member.size = len(data)
            member.mode = 0o755 if name in package.programs or name.startswith(("bin/", "python-scripts/")) else 0o644
            file.addfile(member, io.BytesIO(data))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mtime = tarfile.SYMTYPE, target, 1700000000
            file.addfile(member)
    return packed.getvalue()


# -- packages -------------------------------------------------------------------------------------------------------------


def python_package(program: str = "") -> Package:
    """A ``python`` of conda's layout, made of an interpreter of this machine: program, standard library, shared library."""
    asked = program or getattr(sys, "_base_executable", "") or sys.executable
    found = json.loads(subprocess.run([asked, "-c", _WHERE], check=True, capture_output=True, text=True).stdout)
    short = ".".join(found["version"].split(".")[:2])
    name = f"python{short}"
    files: dict[str, bytes | Path] = {f"bin/{name}": Path(os.path.realpath(found["program"]))}
    stdlib = Path(found["stdlib"])
    for folder, folders, names in os.walk(stdlib):
        inside = Path(folder).relative_to(stdlib)
        folders[:] = [one for one in folders if one not in _LEFT_OUT and not one.startswith("config-")]
        for one in names:
            path = Path(folder) / one
            if one.endswith((".opt-1.pyc", ".opt-2.pyc")) or one.startswith(("_test", "_ctypes_test", "_tkinter")):
                continue
            if one not in _LEFT_OUT and path.is_file():
                files[f"lib/{name}/{(inside / one).as_posix()}"] = path
    prefixes = {}
    for path in list(files):
        # What the interpreter says about how it was made names its old place.
        if "_sysconfigdata" in path:
            files[path] = Path(str(files[path])).read_bytes().replace(found["base"].encode(), PLACEHOLDER.encode())
            prefixes[path] = "text"
    if found["shared"] and found["library"]:
        files[f"lib/{found['library']}"] = Path(found["libdir"]) / found["library"]
    files[f"lib/{name}/site-packages/README.txt"] = b"Third party packages go here.\n"
    return Package(
        "python", found["version"], files, license="Python-2.0", prefixes=prefixes,
        links={"bin/python": name, "bin/python3": name},
    )  # fmt: skip


def module(name: str, version: str, depends: "tuple[str, ...]" = ("python",), **others: Any) -> Package:
    """A package of one importable module, with the metadata by which Python knows it."""
    top = name.replace("-", "_")
    files: dict[str, bytes | Path] = {
        f"site-packages/{top}/__init__.py": f"VERSION = {version!r}\n\n\ndef main():\n    print('{name}', VERSION)\n".encode(),
        f"site-packages/{top}-{version}.dist-info/METADATA": (
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\n".encode()
        ),
        f"site-packages/{top}-{version}.dist-info/INSTALLER": b"conda\n",
        f"site-packages/{top}-{version}.dist-info/RECORD": (
            f"{top}/__init__.py,,\n{top}-{version}.dist-info/METADATA,,\n{top}-{version}.dist-info/RECORD,,\n".encode()
        ),
    }
    return Package(name, version, files, depends, noarch="python", **others)


def data_package(name: str, version: str, **others: Any) -> Package:
    """One without code: a program of text that names the environment's place, and a binary file that does too."""
    program = f"#!{PLACEHOLDER}/bin/python\nprint({version!r})\n".encode()
    binary = b"\x7fDATA\0" + f"{PLACEHOLDER}/share/{name}".encode() + b"\0end"
    return Package(
        name, version,
        {f"bin/{name}": program, f"share/{name}/where.bin": binary, f"share/{name}/VERSION": version.encode()},
        prefixes={f"bin/{name}": "text", f"share/{name}/where.bin": "binary"}, **others,
    )  # fmt: skip


def usual(program: str = "") -> "list[Package]":
    """What the tests' channel has: two versions of ``alpha``, and ``beta`` and ``gamma``, which do not go together."""
    return [
        python_package(program),
        module("alpha", "1.0", form=".tar.bz2"),
        module("alpha", "2.0", ("python", "data-files >=1"), entry_points=("alpha-say = alpha:main",)),
        module("beta", "1.0", ("python", "alpha >=2")),
        module("gamma", "1.0", ("python", "alpha <2")),
        data_package("data-files", "1.5", form=".tar.bz2"),
    ]


def main(arguments: "list[str]") -> int:
    if not 1 <= len(arguments) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(arguments[0]).absolute()
    shutil.rmtree(folder / "noarch", ignore_errors=True)
    shutil.rmtree(folder / subdir(), ignore_errors=True)
    make_channel(folder, usual(*arguments[1:]))
    print(f"CONDA_CHANNEL={folder.as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
