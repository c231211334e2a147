"""Wheels made here, and a package index that serves them: small, real, and with all that goes wrong with one."""

import base64
import hashlib
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread


def wheel(
    folder: Path, name: str, version: str = "1.0", *requires: str, tag: str = "py3-none-any", headers: str = "",
    files: "dict[str, str] | None" = None,
) -> Path:  # fmt: skip
    """A wheel with a module of the package's name; ``files``: others instead, without the metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    bare = name.replace("-", "_")
    info = f"{bare}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    content = {
        **(files or {f"{bare}/__init__.py": f"version = {version!r}\n"}),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}{headers}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    path = folder / f"{bare}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inner, text in content.items():
            archive.writestr(zipfile.ZipInfo(inner, (2020, 1, 1, 0, 0, 0)), text)
        archive.writestr(f"{info}/RECORD", "".join(f"{inner},,\n" for inner in [*content, f"{info}/RECORD"]))
    return path


class Index:
    """A package index (PEP 503) over a folder of wheels. ``asked`` counts requests by path; ``auth`` is what it wants as user:password;
    ``status`` answers everything so; ``hashes``: whether it tells them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: Counter[str] = Counter()
        self.auth = ""
        self.status = 0
        self.hashes = True
        self.address = ""
        self._open: dict[str, Event] = {}

    @contextmanager
    def held(self, path: str) -> Iterator[None]:
        """Requests for this path wait until the block ends."""
        self._open[path] = Event()
        try:
            yield
        finally:
            self._open.pop(path).set()

    def respond(self, request: BaseHTTPRequestHandler) -> tuple[int, str, bytes]:
        self.asked[request.path] += 1
        if (gate := self._open.get(request.path)) is not None:
            gate.wait(120)
        if self.status:
            return self.status, "text/plain", b"no"
        want = "Basic " + base64.b64encode(self.auth.encode()).decode()
        if self.auth and request.headers.get("Authorization") != want:
            return 401, "text/plain", b"who?"
        parts = request.path.strip("/").split("/")
        if parts[0] == "files":
            path = self.folder / parts[-1]
            return (200, "application/octet-stream", path.read_bytes()) if path.is_file() else (404, "text/plain", b"")
        found = [
            path for path in sorted(self.folder.glob("*.whl")) if path.name.split("-")[0].replace("_", "-") == parts[-1]
        ]
        if not found:
            return 404, "text/plain", b""
        links = "".join(f'<a href="/files/{path.name}{self._fragment(path)}">{path.name}</a>\n' for path in found)
        return 200, "text/html", f"<!DOCTYPE html><html><body>{links}</body></html>".encode()

    def _fragment(self, path: Path) -> str:
        return f"#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}" if self.hashes else ""


@contextmanager
def serving(folder: Path) -> Iterator[Index]:
    """The folder's wheels on a port of loopback."""
    index = Index(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, kind, body = index.respond(self)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET
        # As a proxy it is asked in other ways: these count too.
        do_CONNECT = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    index.address = f"http://127.0.0.1:{server.server_address[1]}/simple"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
