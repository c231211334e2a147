"""Packing the agent as one file, and the text that starts it on a target. Not part of the packed program."""

import functools
import hashlib
import io
import zipfile
from pathlib import Path

PACKAGE = "runstead_agent"

# Names are UTF-8 to the studio, whatever the account's locale: an interpreter that would read them otherwise is started anew.
# Before Python 3.7 only a locale can tell it so; scripts still get the account's own.
_UTF8 = """
import os, sys
own = os.environ.pop("RUNSTEAD_LC_ALL", None)
if own is not None:
    os.environ.pop("LC_ALL", None)
    if own:
        os.environ["LC_ALL"] = own
sys.path.insert(0, sys.argv[1])
from PACKAGE.serve import main
main(sys.argv[2], int(sys.argv[3]))
""".replace("PACKAGE", PACKAGE)

BOOTSTRAP = f"""
import errno, hashlib, os, sys
mask = os.umask(0o077)
def refuse(error):
    fix = {{
        errno.EACCES: "Let the account write there, or choose another root folder",
        errno.EPERM: "Let the account write there, or choose another root folder",
        errno.EROFS: "Choose a root folder on a disk that can be written",
        errno.ENOSPC: "Free some space or some files there, or choose a root folder on another disk",
        errno.EDQUOT: "The account's quota is used up: free some space, or choose a root folder on another disk",
        errno.ENOTDIR: "A file stands in the way: choose another root folder",
        errno.EEXIST: "A file stands in the way: choose another root folder",
        errno.ENAMETOOLONG: "Choose a shorter root folder",
        errno.ELOOP: "A link leads back to itself: choose another root folder",
    }}.get(error.errno, "Choose another root folder")
    shown = ascii(root) if any(ord(c) > 126 for c in root) else root
    sys.exit("the root folder %s cannot be used: %s. %s." % (shown, error.strerror, fix))
def take(n):
    data = b""
    while len(data) < n:
        piece = os.read(0, min(n - len(data), 1 << 20))
        if not piece:
            os._exit(3)
        data += piece
    return data
root, digest = os.fsdecode(sys.argv[1].encode("utf-8", "surrogateescape")), sys.argv[2]
root = os.path.abspath(os.path.expanduser(root))
folder = os.path.join(root, "agent")
try:
    os.makedirs(folder, 0o700, exist_ok=True)
except OSError as error:
    refuse(error)
path = os.path.join(folder, "agent-%s.pyz" % digest)
try:
    with open(path, "rb") as file:
        have = hashlib.sha256(file.read()).hexdigest() == digest
except OSError:
    have = False
if have:
    try:
        os.utime(path)  # a cleaning takes programs that nobody asks for
    except OSError:
        pass
    os.write(1, b"h")
else:
    os.write(1, b"n")
    data = take(int.from_bytes(take(8), "big"))
    if hashlib.sha256(data).hexdigest() != digest:
        sys.exit("the agent program arrived damaged")
    temp = "%s.%d.new" % (path, os.getpid())
    try:
        with open(temp, "wb") as file:
            file.write(data)
        os.rename(temp, path)
        for name in ("runs", "builds", "envs", "blobs", "lib", "cache"):
            os.makedirs(os.path.join(root, name), 0o700, exist_ok=True)
    except OSError as error:
        try:
            os.unlink(temp)
        except OSError:
            pass
        refuse(error)
if sys.getfilesystemencoding().lower().replace("-", "") != "utf8" and sys.executable:
    env = dict(os.environ)
    if sys.version_info < (3, 7):
        import locale
        for name in ("C.UTF-8", "en_US.UTF-8", "C.utf8", "en_US.utf8"):
            try:
                locale.setlocale(locale.LC_CTYPE, name)
            except locale.Error:
                continue
            env.update(RUNSTEAD_LC_ALL=env.get("LC_ALL", ""), LC_ALL=name)
            break
    start = {_UTF8!r}
    os.execve(sys.executable, [sys.executable, "-I", "-S", "-X", "utf8", "-c", start, path, root, str(mask)], env)
sys.path.insert(0, path)
from {PACKAGE}.serve import main
main(root, mask)
"""


@functools.cache
def packed() -> tuple[str, bytes]:
    """SHA-256 (hex) and bytes of the packed program; the same sources give the same bytes."""
    folder = Path(__file__).parent
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sorted(folder.rglob("*.py")):
            if source.name == "pack.py":
                continue
            name = f"{PACKAGE}/{source.relative_to(folder).as_posix()}"
            info = zipfile.ZipInfo(name, date_time=(2020, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, source.read_bytes(), zipfile.ZIP_DEFLATED, 6)
        start = f"from {PACKAGE} import __main__\n__main__.start()\n"
        archive.writestr(zipfile.ZipInfo("__main__.py", date_time=(2020, 1, 1, 0, 0, 0)), start)
    data = buffer.getvalue()
    return hashlib.sha256(data).hexdigest(), data
