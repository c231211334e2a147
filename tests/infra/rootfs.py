#!/usr/bin/env python3
"""Write a root filesystem tar made of Debian packages installed on this host.

    rootfs.py PACKAGE... > rootfs.tar

Takes the named packages, the essential ones and all they depend on, as the
files lie on this disk: no registry and no maintainer script is asked, so it
needs seconds where debootstrap needs a minute. Documentation, manual pages
and translations are left out. dpkg's records come along, so apt works inside.
"""

import io
import os
import re
import subprocess
import sys
import tarfile

DROP = re.compile(r"/usr/share/(doc|man|info|locale|lintian|bug|zoneinfo/right)/|/__pycache__/")
BASE = ("apt", "ca-certificates", "debian-archive-keyring", "netbase", "procps")
FOLDERS = (
    "dev",
    "run",
    "mnt",
    "media",
    "opt",
    "srv",
    "usr/local",
    "usr/local/bin",
    "usr/local/lib",
    "usr/local/sbin",
    "usr/local/share",
    "var/log",
    "var/mail",
    "var/lib/apt/lists",
    "var/lib/apt/lists/partial",
    "var/cache/apt/archives",
    "var/cache/apt/archives/partial",
    "var/lib/dpkg/updates",
)
CA = "/etc/ssl/certs/ca-certificates.crt"


def installed():
    form = "${binary:Package}\t${Package}\t${Essential}\t${Pre-Depends}, ${Depends}\t${Provides}\t${db:Status-Status}\n"
    out = subprocess.run(["dpkg-query", "-W", "-f", form], check=True, capture_output=True, text=True).stdout
    packages, provided = {}, {}
    for line in out.splitlines():
        full, name, essential, depends, provides, state = line.split("\t")
        if state != "installed":
            continue
        packages[name] = (full, essential == "yes", depends)
        for virtual in re.findall(r"[a-z0-9][a-z0-9+.-]+", re.sub(r"\(.*?\)", "", provides)):
            provided.setdefault(virtual, name)
    return packages, provided


def closure(wanted, packages, provided):
    todo, done = list(wanted) + [n for n, p in packages.items() if p[1]], set()
    while todo:
        name = todo.pop()
        name = name if name in packages else provided.get(name)
        if name is None or name in done:
            continue
        done.add(name)
        for group in packages[name][2].split(","):
            choices = [re.sub(r"[\s(:].*", "", c.strip()) for c in group.split("|")]
            choice = next((c for c in choices if c in packages or c in provided), None)
            if choice:
                todo.append(choice)
    return sorted(done)


def main():
    packages, provided = installed()
    missing = [n for n in sys.argv[1:] if n not in packages]
    if missing:
        sys.exit(f"rootfs.py: not installed on this host: {' '.join(missing)}")
    chosen = closure(sys.argv[1:] + [b for b in BASE if b in packages], packages, provided)

    paths, info = set(), []
    for name in chosen:
        for stem in (name, packages[name][0]):
            listing = f"/var/lib/dpkg/info/{stem}.list"
            if os.path.exists(listing):
                with open(listing) as f:
                    paths.update(f.read().split("\n"))
                info.append(stem)
    paths.discard(""), paths.discard("/.")
    paths = {p for p in paths if not DROP.search(p + ("/" if os.path.isdir(p) else ""))}
    # /bin, /lib and the like are links here: file everything under its real folder.
    paths = {os.path.join(os.path.realpath(os.path.dirname(p)), os.path.basename(p)) for p in paths}
    paths |= {p for p in ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32") if os.path.islink(p)}
    alternatives = "/etc/alternatives"
    for p in list(paths):  # links that point through /etc/alternatives
        if os.path.islink(p) and os.readlink(p).startswith(alternatives):
            paths.add(os.readlink(p))
    for entry in os.listdir(alternatives):
        target = os.path.realpath(f"{alternatives}/{entry}")
        if target in paths:
            paths.add(f"{alternatives}/{entry}")
            for folder in ("/usr/bin", "/usr/sbin"):
                if os.path.islink(f"{folder}/{entry}"):
                    paths.add(f"{folder}/{entry}")
    for folder in ("/etc/ssl/certs", "/usr/lib/ssl"):
        for top, _, names in os.walk(folder):
            paths.update([top], (os.path.join(top, n) for n in names))
    paths |= {
        CA,
        "/etc/debian_version",
        "/etc/ld.so.conf",
        "/etc/apt/sources.list",
        "/etc/apt/sources.list.d/debian.sources",
    }
    for p in list(paths):  # parents, so that their modes are right
        while p != "/":
            p = os.path.dirname(p)
            paths.add(p)
    paths -= {"/", "/etc/passwd", "/etc/group", "/etc/shadow", "/var/lib/dpkg/status"}

    with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for p in sorted(paths):
            if os.path.lexists(p):
                tar.add(p, arcname=p.lstrip("/"), recursive=False)

        def put(name, text, mode=0o644):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), mode
            tar.addfile(member, io.BytesIO(text))

        for name in ("passwd", "group"):
            with open(f"/usr/share/base-passwd/{name}.master", "rb") as f:
                put(f"etc/{name}", re.sub(rb":\*:", b":x:", f.read()) if name == "passwd" else f.read())
        put("etc/shadow", b"root:*:19000:0:99999:7:::\n", 0o640)
        # The mirror may be a frozen snapshot, whose lists are past their date.
        put("etc/apt/apt.conf.d/99check", b'Acquire::Check-Valid-Until "false";\nAcquire::Check-Date "false";\n')
        keep = set(info)
        for name in sorted(os.listdir("/var/lib/dpkg/info")):
            if name.rsplit(".", 1)[0] in keep:
                tar.add(f"/var/lib/dpkg/info/{name}", arcname=f"var/lib/dpkg/info/{name}")
        status = subprocess.run(
            ["dpkg-query", "-s", *(packages[n][0] for n in chosen)], check=True, capture_output=True
        ).stdout
        put("var/lib/dpkg/status", status)
        # What the maintainer scripts would have made.
        for folder, mode in (
            ("tmp", 0o1777),
            ("var/tmp", 0o1777),
            ("root", 0o700),
            ("proc", 0o555),
            ("sys", 0o555),
            *((d, 0o755) for d in FOLDERS),
        ):
            if "/" + folder not in paths:
                member = tarfile.TarInfo(folder)
                member.type, member.mode = tarfile.DIRTYPE, mode
                tar.addfile(member)
    print(f"{len(chosen)} packages, {len(paths)} files", file=sys.stderr)


if __name__ == "__main__":
    main()
