"""Where packages come from: what the target's own configuration says, and what the studio says instead. Standard library alone,
Python 3.6 or newer; sent to the target with ``on_target``.

The wish (``index`` of ``spec["build"]``): ``index_url``, ``extra_index_urls``, ``find_links``, ``offline``, and ``private``: those of the
addresses that ``user:password`` in the variable RUNSTEAD_INDEX_AUTH is for. The installer is given it in its variables only.
"""

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

AUTH = "RUNSTEAD_INDEX_AUTH"
_YES = ("1", "true", "yes", "on")
_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
# Variables that say where packages are: none of them counts where the studio says it.
_SOURCES = {
    "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_TRUSTED_HOST", "PIP_PRE", "PIP_CONFIG_FILE",
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX", "UV_INDEX_STRATEGY",
    "UV_CONFIG_FILE", "UV_INSECURE_HOST", "UV_OFFLINE",
}  # fmt: skip


def environment(index: "Dict[str, Any]", auth: str) -> "Dict[str, str]":
    """All variables for an installer, pip or uv."""
    env = {name: value for name, value in os.environ.items() if name not in (AUTH, "RUNSTEAD_REGISTRY_AUTH")}
    if not says_something(index):
        env.update(uv_settings())
        return env
    pip = pip_settings()
    found = sources(index, auth, pip)
    for name in _SOURCES:
        env.pop(name, None)
    for name, value in pip.items():
        # pip's files are not read any more: what they say of certificates, proxies and time-outs stays.
        if "PIP_" + name.upper().replace("-", "_") not in _SOURCES and name != "config-file":
            env["PIP_" + name.upper().replace("-", "_")] = " ".join(value.split())
    for name, value in uv_settings().items():
        if name not in _SOURCES:
            env[name] = value
    env.update(PIP_CONFIG_FILE=os.devnull, UV_NO_CONFIG="1")
    env.update(variables(found))
    if index.get("offline"):
        env.update(UV_HTTP_RETRIES="1", PIP_RETRIES="1")  # whatever is not on the local network is not waited for
    return env


def says_something(index: "Dict[str, Any]") -> bool:
    return any(index.get(name) for name in ("index_url", "extra_index_urls", "find_links", "offline"))


def sources(index: "Dict[str, Any]", auth: str, pip: "Dict[str, str]") -> "Dict[str, Any]":
    """{"index_url", "extra_index_urls", "find_links", "no_index", "trusted"}: the studio's word, then this machine's where it is
    not to work offline. ``pip``: as ``pip_settings`` gives it."""
    named = [str(url) for url in index.get("extra_index_urls") or []]
    main = str(index.get("index_url") or "")
    links = [str(link) for link in index.get("find_links") or []]
    trusted = [host_of(url) for url in [main] + named + links if url.startswith("http://")]
    private = index.get("private") or []
    secret = [with_auth(url, auth) if url in private else url for url in named]
    found = with_auth(main, auth) if main in private else main
    places = list(links)
    if index.get("offline"):
        if not found and secret:
            found = secret.pop(0)
        no_index = not found
    else:
        no_index = pip.get("no-index", "").lower() in _YES and not (found or secret)
        if not found:
            found = pip.get("index-url", "")
            secret += pip.get("extra-index-url", "").split()
        trusted += pip.get("trusted-host", "").split()
        places += present(pip.get("find-links", "").split())
    return {
        "index_url": found,
        "extra_index_urls": secret,
        "find_links": places,
        "no_index": no_index,
        "trusted": trusted,
    }


def variables(found: "Dict[str, Any]") -> "Dict[str, str]":
    """``sources`` in the words of pip and of uv; ``no_index`` is an option of uv's command line besides."""
    said = {
        "PIP_NO_INDEX": "1" if found["no_index"] else "",
        "PIP_INDEX_URL": found["index_url"],
        "PIP_EXTRA_INDEX_URL": " ".join(found["extra_index_urls"]),
        "PIP_FIND_LINKS": " ".join(found["find_links"]),
        "PIP_TRUSTED_HOST": " ".join(found["trusted"]),
        "UV_DEFAULT_INDEX": found["index_url"],
        "UV_INDEX": " ".join(found["extra_index_urls"]),
        "UV_FIND_LINKS": ",".join(found["find_links"]),
        "UV_INSECURE_HOST": " ".join(found["trusted"]),
        # As pip does: several indexes are searched alike; uv alone would stop at the first that has the name.
        "UV_INDEX_STRATEGY": "unsafe-best-match" if found["extra_index_urls"] else "",
    }
    return {name: value for name, value in said.items() if value}


def no_index(index: "Dict[str, Any]") -> bool:
    """Whether nothing but folders is looked at."""
    return bool(sources(index, "", pip_settings())["no_index"])


def present(links: "List[str]") -> "List[str]":
    return [link for link in links if "://" in link or os.path.isdir(os.path.expanduser(link))]


def host_of(url: str) -> str:
    """host[:port] of an address."""
    return url.split("://", 1)[-1].split("/", 1)[0].rpartition("@")[2]


def with_auth(url: str, auth: str) -> str:
    """The address with ``user:password`` in it; addresses of files stay as they are."""
    from urllib.parse import quote

    if not auth or not url.startswith(("http://", "https://")) or "@" in url.split("://", 1)[1].split("/", 1)[0]:
        return url
    user, _, password = auth.partition(":")
    scheme, rest = url.split("://", 1)
    return "%s://%s:%s@%s" % (scheme, quote(user, safe=""), quote(password, safe=""), rest)


def masks(auth: str) -> "List[bytes]":
    """What may appear nowhere in an output, the longest first."""
    from urllib.parse import quote

    user, _, password = auth.partition(":")
    texts = {auth, "%s:%s" % (quote(user, safe=""), quote(password, safe=""))} if auth else set()
    if len(password) >= 4:
        texts |= {password, quote(password, safe="")}
    return [text.encode() for text in sorted(texts, key=len, reverse=True)]


def uv_settings() -> "Dict[str, str]":
    """uv does not read pip's configuration: say the same in its words, where nothing is said in them already."""
    pip = pip_settings()
    said = {}
    for name, value in (
        ("UV_DEFAULT_INDEX", pip.get("index-url", "")),
        ("UV_INDEX", " ".join(pip.get("extra-index-url", "").split())),
        ("UV_FIND_LINKS", ",".join(present(pip.get("find-links", "").split()))),
        ("UV_INSECURE_HOST", " ".join(pip.get("trusted-host", "").split())),
        ("UV_HTTP_TIMEOUT", pip.get("timeout", pip.get("default-timeout", ""))),
        ("SSL_CERT_FILE", pip.get("cert", "")),
        # The machine's own authorities, as pip does; uv brings others, which a company's mirror is not among.
        ("UV_SYSTEM_CERTS", "1" if any(os.path.exists(path) for path in _AUTHORITIES) else ""),
        ("SSL_CLIENT_CERT", pip.get("client-cert", "")),
    ):
        if value and name not in os.environ:
            said[name] = value
    if "UV_INDEX" in said and "UV_INDEX_STRATEGY" not in os.environ:
        # Whoever configured several indexes for pip has them searched alike; uv alone would stop at the first that has the name.
        said["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    if "UV_INDEX_URL" in os.environ:
        said.pop("UV_DEFAULT_INDEX", None)
    if "UV_EXTRA_INDEX_URL" in os.environ:
        said.pop("UV_INDEX", None)
    if "UV_CONFIG_FILE" not in os.environ:
        # A project's settings found by chance in a folder above are not ours; the user's and the machine's are.
        config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        for path in (os.path.join(config, "uv", "uv.toml"), "/etc/uv/uv.toml"):
            if os.path.isfile(path):
                said["UV_CONFIG_FILE"] = path
                break
        else:
            said["UV_NO_CONFIG"] = "1"
    return said


def pip_settings() -> "Dict[str, str]":
    """pip's options by their long names, from its files and its variables, as pip itself combines them."""
    import configparser

    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    machine = [
        os.path.join(d, "pip", "pip.conf")
        for d in reversed(os.environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":"))
        if d
    ]
    paths = [
        *machine,
        "/etc/pip.conf",
        os.path.join(home, ".pip", "pip.conf"),
        os.path.join(config, "pip", "pip.conf"),
    ]
    custom = os.environ.get("PIP_CONFIG_FILE")
    if custom == os.devnull:
        paths = []
    elif custom:
        paths.append(custom)
    found = {"global": {}, "install": {}}  # type: Dict[str, Dict[str, str]]
    for path in paths:
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError):
            continue
        for section, options in found.items():
            if parser.has_section(section):
                options.update((name.replace("_", "-"), value) for name, value in parser.items(section))
    result = dict(found["global"], **found["install"])
    for name, value in os.environ.items():
        if name.startswith("PIP_") and value:
            result[re.sub("_", "-", name[4:].lower())] = value
    return result
