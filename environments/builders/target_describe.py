"""What an interpreter can import: packages with their versions, licences and modules. Standard library alone, Python 3.6 or newer;
sent to the target with ``on_target``."""

import json
import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

MOST = 3 << 20
"""Bytes of a result as JSON: the record that carries it is a message."""
_SEEDS = ("pip", "setuptools", "wheel")

# Runs under the interpreter that is asked, also inside a container. It reads the folders itself: importlib.metadata came with 3.8.
# DESCRIBE prints one JSON object with "packages", LIST name==version lines.
_BODY = r"""
import csv, email.parser, io, json, os, re, sys
def read(folder, *names):
    for name in names:
        try:
            with io.open(os.path.join(folder, name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except (OSError, IOError):
            pass
    return ""
def license_of(headers):
    known = [headers.get("License-Expression") or ""]
    short = (headers.get("License") or "").strip()
    if "\n" not in short and len(short) <= 80 and short.lower() not in ("unknown", "dual license"):
        known.append(short)
    parts = [value.split(" :: ") for value in headers.get_all("Classifier") or [] if value.startswith("License ::")]
    known.append(", ".join(part[-1] for part in parts if part[-1] != "OSI Approved"))
    known.append(short.splitlines()[0] if short and short.lower() != "unknown" else "")
    return ([" ".join(text.split()) for text in known if text.strip()] or [""])[0][:200]
def modules_of(folder):
    found = set(line.strip().split("/")[0] for line in read(folder, "top_level.txt").splitlines())
    if not found - {""}:
        try:
            rows = list(csv.reader(io.StringIO(read(folder, "RECORD"))))
        except csv.Error:
            rows = []
        for row in rows:
            parts = (row[0] if row else "").replace("\\", "/").split("/")
            if parts[-1].endswith((".py", ".pyc", ".so", ".pyd")):
                found.add(parts[0].split(".")[0] if len(parts) == 1 else parts[0])
    return sorted(name for name in found if re.match(r"[^\W\d]\w*\Z", name) and name != "__pycache__")
def packages(light):
    found = {}
    for place in [place for place in sys.path if place]:
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        for name in names:
            if not name.endswith((".dist-info", ".egg-info")):
                continue
            folder = os.path.join(place, name)
            text = read(folder, "METADATA", "PKG-INFO") if os.path.isdir(folder) else read(place, name)
            headers = email.parser.HeaderParser().parsestr(text)
            if not headers.get("Name") or not headers.get("Version"):
                continue
            key = re.sub(r"[-_.]+", "-", headers["Name"]).lower()
            if key in found:
                continue
            entry = found[key] = {"name": key, "version": headers["Version"].strip(), "from": "pip"}
            try:
                url = json.loads(read(folder, "direct_url.json") or "{}").get("url")
            except ValueError:
                url = None
            if url:
                entry["url"] = re.sub(r"://[^/@]*@", "://", url)
            if not light:
                entry["license"] = license_of(headers)
                entry["modules"] = modules_of(folder)
    return [found[key] for key in sorted(found)]
"""
DESCRIBE = _BODY + 'print(json.dumps({"packages": packages(False)}))'
LIST = (
    _BODY
    + """
for one in packages(True):
    print(one["name"] + (" @ " + one["url"] if one.get("url") else "==" + one["version"]))
"""
)


def read(output: str) -> "List[Dict[str, Any]]":
    """The packages in what ``DESCRIBE`` printed; none where it printed nothing."""
    try:
        found = json.loads(output)["packages"]
    except (ValueError, KeyError, TypeError):
        return []
    return found if isinstance(found, list) else []


def lines(packages: "List[Dict[str, Any]]") -> str:
    """``name==version`` of each, one a line; ``name @ address`` of what came from an address."""
    return "".join(
        "%s @ %s\n" % (one["name"], one["url"]) if one.get("url") else "%s==%s\n" % (one["name"], one["version"])
        for one in packages
    )


def without_seeds(packages: "List[Dict[str, Any]]", asked: str) -> "List[Dict[str, Any]]":
    """Without what an installer put there for itself: where another installer made the same environment there is no pip in it.
    ``asked``: the lock, whose packages stay."""
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r"(?m)^([A-Za-z0-9][\w.-]*)", asked)}
    return [one for one in packages if one["name"] not in _SEEDS or one["name"] in names]


def fitted(result: "Dict[str, Any]") -> "Dict[str, Any]":
    """The result, cut where it is larger than what is passed on: first licences and modules go, hashes last."""

    def size() -> int:
        return len(json.dumps(result))

    packages = [dict(one) for one in result.get("packages") or []]
    for field, least in (("modules", []), ("license", "")):
        if size() > MOST:
            packages = [dict(one, **{field: least}) for one in packages]
            result = dict(result, packages=packages)
    if size() > MOST and result.get("lock_text"):
        print("The exact lock is larger than what is kept: it is kept without the hashes.")
        text = re.sub(r"\s*\\\s*\n\s*--hash=\S+", "", result["lock_text"])
        result = dict(result, lock_text=re.sub(r"[ \t]+--hash=\S+", "", text))
    return result


def folder_size(folder: str) -> int:
    """Bytes on the disk."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:
                pass
    return total
