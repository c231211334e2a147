"""Exact packages with their hashes: read, chosen, and made from what installers say. Standard library alone, Python 3.6 or newer;
sent to the target with ``on_target``.

A lock is a requirements file: ``name==version`` or ``name @ address``, each with its hashes. The lock of a conda environment has one
below the line ``# pip``.
"""

import json
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Optional, Tuple

_PIP = re.compile(r"(?m)^# pip\s*$")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def pip_part(text: str) -> str:
    """Of a lock those lines that pip and uv read."""
    if not text.lstrip().startswith("@EXPLICIT") and "\n@EXPLICIT" not in text:
        return text
    parts = _PIP.split(text, 1)
    return parts[1].lstrip("\n") if len(parts) == 2 else ""


def entries(text: str) -> "List[Tuple[str, List[str]]]":
    """(requirement, hashes) of each package of a lock."""
    found = []
    for line in map(str.strip, re.sub(r"\\\s*\n", " ", pip_part(text)).splitlines()):
        if not line or line.startswith(("#", "-")):
            continue
        parts = re.split(r"\s+--hash=", line)
        found.append((parts[0].strip(), [part.strip() for part in parts[1:]]))
    return found


def hashed(text: str) -> bool:
    """Whether each package of the lock has a hash, so that an installer can insist on them."""
    found = entries(text)
    return bool(found) and all(hashes for _, hashes in found)


def text_of(found: "List[Tuple[str, List[str]]]") -> str:
    """The lock of these packages, in the one form that it has: sorted, as uv writes it."""
    lines = []
    for requirement, hashes in sorted(found, key=lambda one: name_of(one[0])):
        lines.append(" \\\n".join([requirement] + ["    --hash=" + value for value in sorted(hashes)]))
    return "".join(line + "\n" for line in lines)


def name_of(requirement: str) -> str:
    """The package's name as it is compared."""
    found = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", found.group(0)).lower() if found else requirement


def constraints(text: str) -> str:
    """The versions of a lock for a resolver on another platform: without hashes, and without files that are of one platform."""
    kept = [one for one, _ in entries(text) if "==" in one and "@" not in one.split("==")[0]]
    # What only the other platform needed, or has built for itself (1.0+cu121), is no rule here.
    return "".join(re.sub(r"(==[^+;\s]+)\+[^;\s]*", r"\1", one.split(";")[0].strip()) + "\n" for one in kept)


def choose(locks: "Dict[str, str]", platform: str) -> "Tuple[str, str, str]":
    """(the lock that fits, the name of another platform, its lock) of those that are known; empty where there is none."""
    if platform and platform in locks:
        return pip_part(locks[platform]), "", ""
    # The nearest: of the same system and machine with another Python, before another machine.
    near = platform.rsplit("-", 1)[0]
    others = sorted(locks, key=lambda name: (not near or not name.startswith(near + "-"),))
    for name in others:
        if constraints(locks[name]):
            return "", name, locks[name]
    return "", "", ""


def from_report(text: str) -> "Tuple[List[Tuple[str, List[str]]], List[str]]":
    """Packages of pip's ``--report``, and the names of those of which it gives no hash. Raises ValueError."""
    found, bare = [], []
    start = text.find("{")
    for item in json.loads(text[max(start, 0) :])["install"]:
        meta, info = item["metadata"], item["download_info"]
        name = re.sub(r"[-_.]+", "-", meta["name"]).lower()
        archive = info.get("archive_info") or {}
        hashes = ["%s:%s" % pair for pair in sorted((archive.get("hashes") or {}).items())]
        if not hashes and "=" in (archive.get("hash") or ""):
            hashes = [archive["hash"].replace("=", ":", 1)]
        hashes = [value for value in hashes if value.split(":")[0] in ("sha256", "sha384", "sha512")]
        url = re.sub(r"://[^/@]*@", "://", info["url"])
        found.append(("%s @ %s" % (name, url) if item.get("is_direct") else "%s==%s" % (name, meta["version"]), hashes))
        if not hashes:
            bare.append(name)
    return found, bare


def normal(text: str) -> str:
    """What uv's compile wrote, in our form; also of one whose addresses hold what is nobody's business."""
    return text_of(
        [(re.sub(r"://[^/@\s]*@", "://", one.split(" ;")[0].strip()), hashes) for one, hashes in entries(text)]
    )


def summary(text: str) -> "Optional[str]":
    """``12 packages`` of a lock."""
    count = len(entries(text))
    return "%d %s" % (count, "package" if count == 1 else "packages")
