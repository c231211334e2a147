"""Solves and installs conda packages with rattler, where a target has no conda of its own. ``on_conda`` starts this text under a Python
that rattler fits (3.10 or newer), with rattler's folder and the file of the wish as arguments.

Wish: ``prefix``; ``cache`` (folder); ``channels`` (names and addresses) and ``specs``, or ``explicit``: ``[{"url", "sha256", "md5"}]`` of
what was solved before; ``prefer``: specifications taken where they can be had; ``said``: a file for the reason where it fails.
"""

import hashlib
import json
import os
import re
import sys
from urllib.parse import unquote, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

SOURCE = ""
"""This file's text, set by who sends it along."""

_AT_ONCE = 16
_GLYPHS = re.compile(r"[│├└─╰╭]+")


def main(folder: str, path: str) -> int:
    import asyncio

    sys.path.insert(0, folder)
    with open(path, encoding="utf-8") as file:
        wish = json.load(file)
    try:
        asyncio.new_event_loop().run_until_complete(make(wish))
        return 0
    except Exception as error:
        if "rattler" not in type(error).__module__ and type(error).__module__ not in ("exceptions", "builtins"):
            raise
        with open(wish["said"], "w", encoding="utf-8") as file:
            file.write(in_one_line(str(error), wish))
        return 1


def in_one_line(text: str, wish: "Dict[str, Any]") -> str:
    """rattler draws what does not go together as a tree, and names causes one a line."""
    nowhere = re.search(r"No candidates were found for ([^\n]+?)\.?\s*$", text)
    if nowhere:
        # Where there are others of this name, "nowhere *" says that there is none.
        return "no package fits %s in the channels %s. Check its name, its version and the channels." % (
            nowhere.group(1).replace(" *", "", 1), ", ".join(wish.get("channels") or []),
        )  # fmt: skip
    lines = [_GLYPHS.sub("", line).strip() for line in text.splitlines()]
    if any("incompatible" in line for line in lines):
        needs = {
            "%s needs %s" % (line[: -len(" would require")], lines[number].split(", which ")[0].rstrip(",:"))
            for number, line in enumerate(lines[:-1], 1)
            if line.endswith(" would require")
        }
        if needs:
            return "these packages do not go together: %s. Change one of the versions." % "; ".join(sorted(needs))
    words = [line.rstrip(",:") for line in lines if line]
    head = words[0].replace("Cannot solve the request because of: ", "") if words else "rattler gave no reason"
    return "%s: %s" % (head, "; ".join(words[1:])) if words[1:] else head


async def make(wish: "Dict[str, Any]") -> None:
    import rattler
    from rattler import networking

    config = rattler.Config.from_toml('tls-root-certs = "system"')
    client = networking.Client.from_config(config)
    cache = wish["cache"]
    if "explicit" in wish:
        records = await recorded(wish["explicit"], client)
    else:
        records = await solved(wish, client)
    for record in records:
        verify(record)
    print("%d packages:" % len(records))
    for record in sorted(records, key=lambda one: one.name.normalized):
        print("  %s %s %s" % (record.name.normalized, record.version, record.build))
    sys.stdout.flush()
    await rattler.install(
        records,
        wish["prefix"],
        cache_dir=os.path.join(cache, "packages"),
        client=client,
        config=config,
        show_progress=False,
        # Packages that need them say so; conda runs them as well.
        execute_link_scripts=True,
        reporter=Reporter(),
    )


def verify(record: "Any") -> None:
    """rattler compares hashes of what it downloads, but not of files of this machine."""
    parts = urlsplit(record.url)
    if parts.scheme != "file":
        return
    for noted, made in ((record.sha256, hashlib.sha256()), (record.md5, hashlib.md5())):  # noqa: S324 what channels have
        if not noted:
            continue
        with open(unquote(parts.path), "rb") as file:
            for piece in iter(lambda: file.read(1 << 20), b""):
                made.update(piece)
        if made.digest() != bytes(noted):
            raise ValueError(
                "%s is not the file that was noted: its %s is %s, not %s. It is damaged, or was replaced."
                % (record.url, made.name, made.hexdigest(), bytes(noted).hex())
            )
        return


class Reporter(object):
    """One line a package that is fetched; the rest of rattler's progress is for terminals."""

    def __init__(self) -> None:
        self.names: "List[str]" = []

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        self.names.append(package_name)
        return len(self.names) - 1

    def on_download_start(self, cache_entry: int) -> int:
        print("Fetch %s" % self.names[cache_entry])
        sys.stdout.flush()
        return cache_entry

    def __getattr__(self, name: str) -> "Any":
        if name.startswith("on_"):
            return lambda *arguments: 0
        raise AttributeError(name)


async def solved(wish: "Dict[str, Any]", client: "Any") -> "List[Any]":
    import rattler

    gateway = rattler.Gateway(cache_dir=os.path.join(wish["cache"], "repodata"), client=client)
    alias = os.environ.get("CONDA_CHANNEL_ALIAS") or ""
    known = rattler.ChannelConfig(alias.rstrip("/") + "/") if alias else rattler.ChannelConfig()
    channels = [rattler.Channel(name, known) for name in wish["channels"]]
    detected = rattler.VirtualPackage.detect(rattler.VirtualPackageOverrides.from_env())

    async def attempt(specs: "List[str]") -> "List[Any]":
        return list(
            await rattler.solve(
                channels,
                [rattler.MatchSpec(spec, strict=False) for spec in specs],
                gateway=gateway,
                virtual_packages=detected,
            )
        )

    prefer = wish.get("prefer") or []
    if prefer:
        from rattler.exceptions import SolverError

        try:
            return await attempt([*wish["specs"], *prefer])
        except SolverError:
            print("The versions of another kind of machine cannot all be had here: solving anew")
    return await attempt(wish["specs"])


async def recorded(explicit: "List[Dict[str, str]]", client: "Any") -> "List[Any]":
    """Records of packages by their addresses: what they say of themselves, and the hashes that were noted."""
    import asyncio

    import rattler
    from rattler.package_streaming import PackageArchive

    gate = asyncio.Semaphore(_AT_ONCE)

    async def look(entry: "Dict[str, str]") -> "Any":
        url = entry["url"]
        parts = urlsplit(url)
        async with gate:
            try:
                if parts.scheme == "file":
                    package = await PackageArchive.from_path(unquote(parts.path))
                else:
                    package = await PackageArchive.from_url(client, url)
                index = await package.index_json()
            except Exception as error:
                raise ValueError("%s: %s" % (url, error))
        name = url.rsplit("/", 1)[1]
        subdir = url.rsplit("/", 2)[1]
        record = rattler.PackageRecord(
            name=index.name,
            version=index.version,
            build=index.build,
            build_number=index.build_number,
            subdir=index.subdir or subdir,
            noarch=index.noarch,
            depends=index.depends,
            constrains=index.constrains,
            license=index.license,
            sha256=bytes.fromhex(entry["sha256"]) if entry.get("sha256") else None,
            md5=bytes.fromhex(entry["md5"]) if entry.get("md5") else None,
        )
        return rattler.RepoDataRecord(record, name, url, url.rsplit("/", 2)[0])

    return list(await asyncio.gather(*[look(entry) for entry in explicit]))


if __name__ == "__main__":
    code = main(sys.argv[1], sys.argv[2])
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's own end: threads of rattler's that still work would now and then bring it down.
    os._exit(code)
