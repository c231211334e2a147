"""The browser's modules of the upload, run by Node beside what they must agree with: git, hashlib and the studio's own scan."""

import atexit
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from runs import gitinfo
from runs.manifest import FileEntry, Manifest
from runs.scanning import HashCache, scan

MODULES = Path(__file__).parents[2] / "studio/static/studio/upload"
# One-character names and brackets stay in ASCII here: git matches bytes, and both of ours match characters.
RULES = [
    "*.log", "!keep.log", "/build", "data/", "data/*", "!data/keep", "a/**", "**/b", "a/**/c", "**", "/**/x", "deep/**/", "foo*", "*bar", "f?o",
    "[abc]", "[!a]x", "[^b-d]", "[]-]", "[a-", "x[[:digit:]]", "\\#hash", "\\!bang", "# comment", "", "   ", "trail ", "trail\\ ", "sp ace",
    "/", "//", "!", "a//b", "a/b/", "a/b", "/a/*", "*/c", "**foo", "foo**bar", "*.", ".*", "é*", "😀z", "\\*", "\\", "a\\", "{a,b}", "(a)", "a+b", "$x", "a|b",
    "!/a/", "!*/", "*", "/*", "!c", "b/", "\ttab", "x[0-9]y", "[\\]]", "[a\\-c]",
]  # fmt: skip
PARTS = [
    "a", "b", "c", "x", "data", "keep", "keep.log", "x.log", "build", "foo", "foobar", "bar", "fo", "fxo", "ax", "bx", "x7", "x5y", "#hash", "!bang",
    "trail", "trail ", "sp ace", "é1", "😀z", "*", "-", "]", "{a,b}", "(a)", "a+b", "$x", "a|b", ".hid", "end.", "deep", "\\", "a\\", "\ttab", "# comment",
]  # fmt: skip


@cache
def modules() -> Path:
    """A copy that Node takes for modules, whatever its version: a browser is told so by the page."""
    place = Path(tempfile.mkdtemp(prefix="modules-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    shutil.copytree(MODULES.parent, place, dirs_exist_ok=True)
    (place / "package.json").write_text('{"type": "module"}')
    return place / MODULES.name


def node(script: str, **values: object) -> object:
    """What a module script prints as JSON; ``input`` holds the values."""
    program = shutil.which("node") or str(Path(sys.executable).with_name("node"))
    head = f"const input = JSON.parse(require('fs').readFileSync(0));const base = {json.dumps(modules().as_uri())};"
    body = f"(async () => {{ const out = await (async () => {{ {script} }})(); console.log(JSON.stringify(out)); }})();"
    done = subprocess.run(
        [program, "--no-warnings", "--input-type=commonjs", "-e", head + body],
        input=json.dumps(values), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


KEPT = """
const { IgnoreRules } = await import(`${base}/gitignore.js`);
return input.cases.map(({ text, paths }) => {
  const rules = new IgnoreRules(".gitignore", text);
  return paths.filter((path) => {
    const parts = path.split("/");
    return parts.every((_, at) => !rules.why(parts.slice(0, at + 1).join("/"), at < parts.length - 1));
  });
});
"""


def lay(folder: Path, source: random.Random) -> list[str]:
    """Some files in some folders; their paths."""
    for _ in range(25):
        parts = [source.choice(PARTS) for _ in range(source.randint(1, 4))]
        path = folder.joinpath(*parts)
        if any(parent.is_file() for parent in path.parents) or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def kept_by_git(folder: Path) -> list[str]:
    command = [
        "git",
        "-C",
        str(folder),
        "-c",
        "core.excludesFile=/dev/null",
        "ls-files",
        "-o",
        "--exclude-from=.gitignore",
        "-z",
    ]
    listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")[:-1]
    return sorted(listed)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[tuple[Path, str, list[str]]]:
    """Folders with ignore files drawn at random, and what git keeps of each."""
    made = []
    for seed in range(60):
        source = random.Random(seed)
        folder = tmp_path_factory.mktemp("tree")
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
        (folder / ".git/info/exclude").unlink(missing_ok=True)
        shutil.move(folder / ".git", (hidden := tmp_path_factory.mktemp("git")) / "git")
        lay(folder, source)
        text = "\n".join(source.choice(RULES) for _ in range(source.randint(1, 6))) + "\n"
        (folder / ".gitignore").write_text(text)
        shutil.move(hidden / "git", folder / ".git")
        made.append((folder, text, kept_by_git(folder)))
    return made


def test_the_browser_keeps_what_git_keeps(cases):
    sent = []
    for folder, text, _ in cases:
        everything = sorted(
            p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and ".git/" not in f"{p}"
        )
        sent.append({"text": text, "paths": everything})
    answers = node(KEPT, cases=sent)
    wrong = [
        (text, sorted(set(kept) ^ set(found)))
        for (_, text, kept), found in zip(cases, answers, strict=True)
        if sorted(found) != kept
    ]
    assert wrong == []


def test_the_scan_keeps_what_git_keeps(cases, tmp_path):
    wrong = []
    for folder, text, kept in cases:
        found = [entry.path for entry in scan(folder, HashCache(tmp_path / "none")).manifest.files]
        if sorted(found) != kept:
            wrong.append((text, sorted(set(kept) ^ set(found))))
        (tmp_path / "none").unlink(missing_ok=True)
    assert wrong == []


def test_sha256_agrees_with_hashlib_for_every_length_and_cut():
    source = random.Random(1)
    pieces = [
        [source.randbytes(source.choice([0, 1, 3, 55, 56, 63, 64, 65, 200, 5000])) for _ in range(n % 5 + 1)]
        for n in range(120)
    ]
    script = """
    const { Sha256 } = await import(`${base}/sha256.js`);
    return input.pieces.map((parts) => {
      const hash = new Sha256();
      for (const part of parts) hash.update(Uint8Array.from(Buffer.from(part, "hex")));
      return hash.hex();
    });
    """
    answers = node(script, pieces=[[part.hex() for part in parts] for parts in pieces])
    assert answers == [hashlib.sha256(b"".join(parts)).hexdigest() for parts in pieces]


def test_batches_hold_so_many_files_and_bytes_in_their_order():
    script = "const { batches } = await import(`${base}/batches.js`); return batches(input.items, 3, 100);"

    def batched(*sizes: int) -> list[list[int]]:
        return [[item["size"] for item in batch] for batch in node(script, items=[{"size": size} for size in sizes])]

    assert batched() == []
    assert batched(1, 1, 1, 1) == [[1, 1, 1], [1]]
    assert batched(60, 40, 1, 500, 2) == [[60, 40], [1], [500], [2]]


def test_the_browser_s_manifest_is_the_studio_s():
    names = ["b", "a/b", "a.py", "a b", "ä", "ﾟ", "😀", '"quoted"', "a/😀", "\u2028", "é/x", "zz", "B2", "a-b", "a/b-c"]
    files = [FileEntry(name, 0o644, 1, hashlib.sha256(b"x").hexdigest()) for name in names]
    made = Manifest.build(files, [], ["empty", "empty2/😀", "empty2/ﾟ"])
    script = """
    const { manifest } = await import(`${base}/manifest.js`);
    return Buffer.from(manifest(input.files, input.dirs)).toString("utf8");
    """
    sent = [{"path": entry.path, "size": entry.size, "digest": entry.digest} for entry in files]
    text = node(script, files=sent, dirs=["empty2/😀", "empty", "empty2/ﾟ"])
    assert str(text).encode() == made.data
    assert Manifest.parse(made.data) == made


GIT = """
const { facts, readerOf } = await import(`${base}/git-facts.js`);
const fs = require("fs");
const make = (path, name) => ({
  name,
  folder: fs.statSync(path).isDirectory(),
  children: async () => fs.readdirSync(path).map((child) => make(`${path}/${child}`, child)),
  file: async () => ({ size: fs.statSync(path).size, text: async () => fs.readFileSync(path, "utf8") }),
});
return facts(readerOf(make(input.git, ".git")));
"""


@pytest.mark.parametrize("state", ["branch", "packed", "detached", "fresh", "other remote"])
def test_git_facts_read_in_the_browser_are_those_that_git_tells(tmp_path, state):
    def git(*arguments: str) -> None:
        person = ["-c", "user.name=a", "-c", "user.email=a@example.test"]
        subprocess.run(["git", *person, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q", "-b", "feature/x")
    git("remote", "add", "origin", "https://ada:s3cret@example.test/lab.git?x=1")
    if state != "fresh":
        (tmp_path / "a").write_text("a")
        git("add", "a")
        git("commit", "-qm", "first")
    if state == "packed":
        git("pack-refs", "--all", "--prune")
    if state == "detached":
        git("checkout", "-q", "--detach")
    if state == "other remote":
        git("remote", "add", "up", "ssh://git:pw@example.test/up.git")
        git("config", "branch.feature/x.remote", "up")
    told = gitinfo.read(tmp_path)
    told.pop("dirty")
    told["repository_uri"] = gitinfo.mask(told["repository_uri"])
    assert node(GIT, git=str(tmp_path / ".git")) == told
