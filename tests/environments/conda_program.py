"""Stands in for conda, mamba and micromamba, none of which can be fetched where these tests run.

It is no recording of what they print, but holds callers to what they take: the options that ``create`` of each kind and version knows, the
hashes that its explicit files may have, and the words in which it refuses. Below that everything is real: rattler solves, and installs
from a real channel. The options are those of conda's reference of commands and of ``micromamba create --help``; SHA-256 in explicit files
came with conda 24.9 and mamba 2.1.
"""

import os
import sys
from pathlib import Path

_PROGRAM = """#!{python}
import argparse, asyncio, hashlib, json, os, re, sys, urllib.parse
KIND, VERSION, FOLDER = {kind!r}, {version!r}, {folder!r}
NUMBER = tuple(int(part) for part in VERSION.split(".")[:2])
SMALL = KIND == "micromamba" or (KIND == "mamba" and NUMBER >= (2,))

def refuse(conda, small):
    sys.stderr.write((small if SMALL else conda) + "\\n")
    sys.exit(1)

def say(text):
    print(text, flush=True)

if sys.argv[1:] == ["--version"]:
    print({{"conda": "conda " + VERSION, "mamba": VERSION if SMALL else "mamba " + VERSION + "\\nconda 23.3.1"}}.get(KIND, VERSION))
    sys.exit(0)
parser = argparse.ArgumentParser(prog=KIND, allow_abbrev=False)
verbs = parser.add_subparsers(dest="verb", required=True)
create = verbs.add_parser("create", allow_abbrev=False)
create.add_argument("-y", "--yes", action="store_true")
create.add_argument("-q", "--quiet", action="store_true")
create.add_argument("-p", "--prefix", required=True)
create.add_argument("-c", "--channel", action="append", default=[])
create.add_argument("--override-channels", action="store_true")
create.add_argument("--offline", action="store_true")
create.add_argument("-f", "--file", action="append", default=[])
if not SMALL:
    create.add_argument("--no-default-packages", action="store_true")
create.add_argument("specs", nargs="*")
asked = parser.parse_args()
if not asked.yes:
    refuse("EOFError: EOF when reading a line", "critical libmamba Aborted.")
if asked.override_channels and not asked.channel:
    refuse("ArgumentError: At least one -c / --channel flag must be supplied when using --override-channels.", "critical libmamba no channels")
packages = os.environ["CONDA_PKGS_DIRS"]
if SMALL:
    os.makedirs(os.environ["MAMBA_ROOT_PREFIX"], exist_ok=True)

sys.path.insert(0, FOLDER)
import rattler
from rattler.exceptions import SolverError

async def main():
    records = []
    if asked.file:
        lines = open(asked.file[0]).read().splitlines()
        assert "@EXPLICIT" in lines
        for line in lines:
            if line.startswith(("#", "@")) or not line:
                continue
            url, _, noted = line.partition("#")
            knows = NUMBER >= (2, 1) if SMALL else KIND == "conda" and NUMBER >= (24, 9)
            if len(noted) not in ((32, 64) if knows else (32,)):
                refuse("ParseError: Could not parse explicit URL: " + line, "critical libmamba Invalid hash in " + line)
            path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
            if not os.path.exists(path):
                refuse("CondaHTTPError: HTTP 404 NOT FOUND for url <" + url + ">", "error    libmamba Could not open " + url)
            kind = "md5" if len(noted) == 32 else "sha256"
            actual = hashlib.new(kind, open(path, "rb").read()).hexdigest()
            if actual != noted:
                refuse(
                    "ChecksumMismatchError: Conda detected a mismatch between the expected content and downloaded content\\nfor url '"
                    + url + "'.\\n  expected " + kind + ": " + noted + "\\n  actual " + kind + ": " + actual,
                    "error    libmamba " + os.path.basename(path) + " tarball has incorrect checksum",
                )
            record = await rattler.RepoDataRecord.from_package_archive(path)
            record.url = url
            record.channel = url.rsplit("/", 2)[0]
            records.append(record)
        names = [record.name.normalized for record in records]
        for place, record in enumerate(records):
            later = set(names[place:]) & set(need.split()[0] for need in record.depends)
            if SMALL and later:  # it links them in the order of the file
                refuse("", "critical libmamba " + names[place] + " is linked before " + ", ".join(later))
    else:
        gateway = rattler.Gateway(cache_dir=os.path.join(packages, "repodata"))
        say("Channels:\\n - " + "\\n - ".join(asked.channel))
        try:
            records = await rattler.solve(
                asked.channel, [rattler.MatchSpec(spec, strict=False) for spec in asked.specs],
                gateway=gateway, virtual_packages=rattler.VirtualPackage.detect(),
            )
        except SolverError as error:
            nowhere = re.search(r"No candidates were found for (.+?)\\.?\\s*$", str(error))
            if nowhere:
                name = nowhere.group(1).replace(" *", "")
                refuse(
                    "\\nPackagesNotFoundError: The following packages are not available from current channels:\\n\\n  - " + name
                    + "\\n\\nCurrent channels:\\n\\n  - " + "\\n  - ".join(asked.channel),
                    "error    libmamba Could not solve for environment specs\\n    The following package could not be found\\n    "
                    "\\u2514\\u2500 " + name + " =* * does not exist (perhaps a typo or a missing channel).\\n"
                    "critical libmamba Could not solve for environment specs",
                )
            tree = "The following packages are incompatible\\n" + "\\n".join(str(error).splitlines()[1:])
            refuse(
                "LibMambaUnsatisfiableError: Encountered problems while solving:\\n" + tree,
                "error    libmamba Could not solve for environment specs\\n    " + tree + "\\ncritical libmamba Could not solve",
            )
    await rattler.install(records, asked.prefix, cache_dir=os.path.join(packages, "kept"), show_progress=False)
    with open(os.path.join(asked.prefix, "conda-meta", "history"), "w") as file:
        file.write("# cmd: " + " ".join(sys.argv) + "\\n")

asyncio.run(main())
sys.stdout.flush()
os._exit(0)
"""


def make_program(folder: Path, kind: str, version: str, rattler: Path) -> Path:
    """A program of this kind and version in ``folder``; ``rattler``: the folder that rattler is installed in."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / kind
    text = _PROGRAM.format(python=os.path.realpath(sys.executable), kind=kind, version=version, folder=str(rattler))
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path
