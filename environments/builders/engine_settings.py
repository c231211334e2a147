"""What an installer inside a container is given of its machine: files, addresses, the cache. Standard library alone, Python 3.6."""

import hashlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

if TYPE_CHECKING or __package__:
    from environments.builders import engine_container, target_index
else:
    import engine_container
    import target_index

TOOLS = engine_container.TOOLS
UV = TOOLS + "/uv"
_AUTHORITIES = TOOLS + "/authorities.pem"
_FILES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")
_PIP = ("index-url", "extra-index-url", "trusted-host", "timeout", "no-index", "pre", "prefer-binary")
# Paths of this machine, and what only means something on it.
_NOT_PASSED = ("PIP_CONFIG_FILE", "UV_CONFIG_FILE", "PIP_FIND_LINKS", "UV_FIND_LINKS", "UV_SYSTEM_CERTS", "PIP_CERT")


class Settings(object):
    """``wish``: ``build`` of the specification; ``auth``: user:password of its index; ``exchange``: a folder of this attempt that the
    container shares."""

    def __init__(self, wish: "Dict[str, Any]", auth: str, exchange: str) -> None:
        self.index = wish.get("index") or {}
        self.uv = wish["tools"].get("uv") or ""
        self.exchange = exchange
        self.said = target_index.environment(self.index, auth)
        self.pip = {} if target_index.says_something(self.index) else target_index.pip_settings()
        self.no_index = target_index.no_index(self.index)

    def links(self) -> "List[str]":
        """Folders of wheels, and addresses of pages that list some."""
        named = self.said.get("PIP_FIND_LINKS") or self.pip.get("find-links", "")
        return [link[7:] if link.startswith("file:///") else link for link in named.split()]

    def files(self) -> "Dict[str, str]":
        """Files and folders of this machine that the installer needs: path here → path in the container."""
        found = {}
        if self.uv and os.path.isfile(self.uv):
            found[os.path.realpath(self.uv)] = UV
        for path in [os.environ.get(name, "") for name in _FILES] + [self.pip.get("cert", "")]:
            if os.path.isfile(path):
                found[os.path.realpath(path)] = _AUTHORITIES
                break
        for link in self.links():
            path = os.path.abspath(os.path.expanduser(link))
            if "://" not in link and os.path.isdir(path):
                found[path] = TOOLS + "/links/" + hashlib.sha256(path.encode()).hexdigest()[:12]
        return found

    def mounts(self, cache: str) -> "List[Dict[str, Any]]":
        found = [
            {"Type": "volume", "Source": cache, "Target": TOOLS + "/cache"},
            {"Type": "bind", "Source": self.exchange, "Target": engine_container.EXCHANGE},
        ]
        return found + [engine_container.read_only(source, target) for source, target in sorted(self.files().items())]

    def variables(self) -> "Dict[str, str]":
        """What this machine, or the studio, says about fetching packages, in the container's paths."""
        files = self.files()
        env = {
            name: value
            for name, value in self.said.items()
            if name.startswith(("UV_", "PIP_"))
            or name.lower() in ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
        }
        for name in _PIP:
            if self.pip.get(name):
                env.setdefault("PIP_" + name.upper().replace("-", "_"), self.pip[name])
        for name in _NOT_PASSED:
            env.pop(name, None)
        places = [files.get(os.path.abspath(os.path.expanduser(link)), link) for link in self.links()]
        places = [place for place in places if "://" in place or place.startswith(TOOLS)]
        if places:
            env.update(PIP_FIND_LINKS=" ".join(places), UV_FIND_LINKS=",".join(places))
        if _AUTHORITIES in files.values():
            env.update((name, _AUTHORITIES) for name in _FILES)
        env.update(
            HOME="/root",
            UV_CACHE_DIR=TOOLS + "/cache/uv",
            PIP_CACHE_DIR=TOOLS + "/cache/pip",
            UV_LINK_MODE="copy",
            UV_NO_PROGRESS="1",
            UV_PYTHON_DOWNLOADS="never",
            UV_NO_CONFIG="1",
            PIP_PROGRESS_BAR="off",
            PIP_BREAK_SYSTEM_PACKAGES="1",
            PIP_ROOT_USER_ACTION="ignore",
            PIP_CONFIG_FILE=os.devnull,
        )
        return env
