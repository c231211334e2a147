"""Images brought to an engine: pulled from a registry, or built from the text of a Dockerfile. Standard library alone, Python 3.6."""

import base64
import io
import json
import re
import tarfile
import time
from urllib.parse import quote, urlencode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Tuple

if TYPE_CHECKING or __package__:
    from environments.agent import engine
    from environments.builders import target_run
else:
    import engine
    import target_run

Failed = target_run.Failed
HUB = "docker.io"
_HUB_KEY = "https://index.docker.io/v1/"
_FIRST_WORD = 90.0
"""Seconds for a registry to begin with its answer; the engine itself gives up on one that is silent after 15."""
_STEP_SECONDS = 7200.0
_SHOWN_EVERY = 5.0
_STEP = re.compile(r"Step (\d+)/(\d+) : ")
_QUIET = re.compile(r" ---> (Running in )?[0-9a-f]{6,}$|Removing intermediate container |Successfully (built|tagged) ")
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_ERROR = re.compile(r"\s*(?:ERROR|E|error|fatal|FATAL)\s*:|.*\b(?:not found|No such file|Error:)", re.IGNORECASE)
_UNREACHABLE = re.compile(
    r"(connection refused|no such host|no route to host|i/o timeout|network is unreachable|connection reset|Client\.Timeout"
    r"|context deadline exceeded|server misbehaving|TLS handshake timeout|\bEOF\b)"
)


def registry_of(name: str) -> str:
    """Address of the registry that an image's name means."""
    first, slash, _ = name.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else HUB


def reference(name: str) -> "Tuple[str, str]":
    """(repository, tag or digest) of an image's name."""
    if "@" in name:
        repository, _, digest = name.partition("@")
        return (repository.rpartition(":")[0] if ":" in repository.rpartition("/")[2] else repository), digest
    if ":" in name.rpartition("/")[2]:
        repository, _, tag = name.rpartition(":")
        return repository, tag
    return name, "latest"


class Credentials(object):
    """User and password of one registry; they are sent to no other. `secret`: "user:password", or empty."""

    def __init__(self, registry: "Dict[str, str]", secret: str) -> None:
        address = re.sub(r"^https?://|/+$|/v[12]/?$", "", registry.get("address", ""))
        self.address = HUB if address in ("", "index.docker.io", "registry-1.docker.io", "hub.docker.com") else address
        user, _, self.password = secret.partition(":")
        self.user = registry.get("username") or user

    def __bool__(self) -> bool:
        return bool(self.password)

    def for_pull(self, name: str) -> "Dict[str, str]":
        """Headers of a pull of this image."""
        if not self or registry_of(name) != self.address:
            return {}
        entry = {"username": self.user, "password": self.password, "serveraddress": self.address}
        return {"X-Registry-Auth": _packed(entry)}

    def for_build(self) -> "Dict[str, str]":
        """Headers of a build, whose Dockerfile may begin with images of that registry."""
        if not self:
            return {}
        key = _HUB_KEY if self.address == HUB else self.address
        return {"X-Registry-Config": _packed({key: {"username": self.user, "password": self.password}})}


def _packed(value: "Dict[str, Any]") -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode("ascii")


class Progress(object):
    """Many events of a pull in few lines."""

    def __init__(self, say: "Callable[[str], None]") -> None:
        self.say = say
        self.began = self.shown = time.time()
        self.layers = {}  # type: Dict[str, List[int]]
        self.done = set()  # type: set[str]
        self.digest = ""

    def note(self, event: "Dict[str, Any]") -> None:
        status, layer = str(event.get("status", "")), str(event.get("id") or "")
        if status.startswith("Digest: "):
            self.digest = status[8:].strip()
        if not layer or status.startswith("Pulling from"):
            return
        sizes = self.layers.setdefault(layer, [0, 0])
        detail = event.get("progressDetail") or {}
        if status == "Downloading":
            sizes[:] = [int(detail.get("current") or 0), int(detail.get("total") or 0)]
        elif status in ("Verifying Checksum", "Download complete"):
            sizes[0] = sizes[1]
        elif status in ("Pull complete", "Already exists"):
            self.done.add(layer)
        now = time.time()
        if now - self.shown >= _SHOWN_EVERY:
            self.shown = now
            have, total = self.bytes()
            self.say("  %d of %d layers, %.1f of %.1f MB" % (len(self.done), len(self.layers), have / 1e6, total / 1e6))

    def bytes(self) -> "Tuple[int, int]":
        return sum(have for have, _ in self.layers.values()), sum(total for _, total in self.layers.values())

    def end(self, name: str) -> None:
        if self.layers:
            took = time.time() - self.began
            self.say("Pulled %s: %d layers, %.1f MB in %.0f s" % (name, len(self.layers), self.bytes()[1] / 1e6, took))


def pull(socket: str, name: str, credentials: Credentials, say: "Callable[[str], None]") -> None:
    """Have the engine pull an image. Raises Failed with one line that says what to do."""
    say("Pulling %s" % name)
    repository, tag = reference(name)
    target = "/images/create?" + urlencode({"fromImage": repository, "tag": tag})
    progress, headers = Progress(say), credentials.for_pull(name)
    try:
        for event in engine.events(socket, target, b"", headers, _FIRST_WORD):
            if event.get("error"):
                raise Failed(why_not_pulled(name, str(event["error"]), bool(headers)))
            progress.note(event)
    except engine.Away as error:
        if error.silent:
            raise Failed("the registry %s does not answer; %s was not pulled." % (registry_of(name), name))
        raise
    progress.end(name)


def why_not_pulled(name: str, said: str, signed_in: bool) -> str:
    """What an engine says of a pull that failed, in one line with what to do."""
    registry = registry_of(name)
    where = "Docker Hub" if registry == HUB else "the registry %s" % registry
    unreachable = _UNREACHABLE.search(said)
    if "no space left on device" in said:
        return "the disk of the Docker engine is full; %s was not pulled. Free some space, then retry." % name
    if "HTTP response to HTTPS client" in said:
        return "%s speaks plain HTTP. Add it to the engine's insecure-registries, or give it a certificate." % where
    if "x509" in said or "certificate" in said:
        return "the engine does not trust the certificate of %s: %s" % (where, said)
    if "toomanyrequests" in said:
        return "%s allows no more pulls for now. Give the environment a user name and password for it, or wait." % where
    if "no matching manifest" in said or "does not match the specified platform" in said or "cannot be used on" in said:
        return "%s is not made for this machine's kind of processor (%s). Name an image that is." % (name, said)
    if signed_in and re.search(r"unauthorized|incorrect username|authentication required|denied|forbidden|401", said):
        return "%s refuses the user name or the password, or has no %s. Check the registry of the environment." % (
            where, name,
        )  # fmt: skip
    if re.search(r"no basic auth|unauthorized|authentication required|401", said):
        return "%s wants a user name and a password for %s. Name them as the registry of the environment." % (
            where, name,
        )  # fmt: skip
    if re.search(r"manifest unknown|not found|pull access denied|repository does not exist|name unknown", said):
        private = "" if signed_in else ", or it is private there: then name the registry's user and password"
        return "there is no image %s in %s%s. Check its name and tag." % (name, where, private)
    if unreachable:
        return "%s cannot be reached from the engine's machine (%s); %s was not pulled. Name an image that is on the engine, or a registry that answers." % (
            where, unreachable.group(1), name,
        )  # fmt: skip
    return "the image %s could not be pulled: %s" % (name, said)


# -- Dockerfiles ----------------------------------------------------------------------------------------------------------


def instructions(text: str) -> "List[Tuple[int, str]]":
    """(line from 1, text on one line) of each instruction, as the engine counts its steps."""
    escape, found, begun, parts = "\\", [], 0, []  # type: str, List[Tuple[int, str]], int, List[str]
    head = True
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        directive = re.match(r"#\s*(\w+)\s*=\s*(\S+)", bare) if head else None
        if directive:
            escape = directive.group(2) if directive.group(1).lower() == "escape" else escape
            continue
        head = False
        if not bare or bare.startswith("#"):
            continue  # between the lines of an instruction, too
        begun = begun or number
        goes_on = bare.endswith(escape)
        parts.append(bare[:-1].strip() if goes_on else bare)
        if not goes_on:
            found.append((begun, " ".join(part for part in parts if part)))
            begun, parts = 0, []
    return found + ([(begun, " ".join(parts))] if parts else [])


def bases(text: str) -> "List[str]":
    """Names of the images that a Dockerfile begins with, as far as they are written out."""
    names, stages = [], set()  # type: List[str], set[str]
    for _, line in instructions(text):
        words = [word for word in line.split() if not word.startswith("--")]
        if len(words) >= 2 and words[0].upper() == "FROM":
            if words[1].lower() not in stages and words[1] != "scratch" and "$" not in words[1]:
                names.append(words[1])
            if len(words) == 4 and words[2].upper() == "AS":
                stages.add(words[3].lower())
    return sorted(set(names))


def labelled(text: str, labels: "Dict[str, str]") -> "Tuple[str, List[int]]":
    """The text with labels in each stage, so that what a build leaves half made is known to be ours too; and for each of its lines
    the one of the original."""
    words = " ".join('%s="%s"' % (name, re.sub(r'(["\\$])', r"\\\1", value)) for name, value in sorted(labels.items()))
    listed = instructions(text)
    # FROM may go on over several lines: its label comes before the next instruction.
    after = {
        listed[place + 1][0] if place + 1 < len(listed) else None
        for place, (_, line) in enumerate(listed)
        if line.split(None, 1)[0].upper() == "FROM"
    }
    lines, places = [], []  # type: List[str], List[int]
    for number, line in enumerate(text.splitlines(), 1):
        if number in after:
            lines.append("LABEL " + words)
            places.append(number)
        lines.append(line)
        places.append(number)
    if None in after:
        lines.append("LABEL " + words)
        places.append(len(text.splitlines()))
    return "\n".join(lines) + "\n", places


class Dockerfile(object):
    """One build of a Dockerfile by the engine. Its steps are cached there, and nothing but the text is sent."""

    def __init__(self, text: str, labels: "Dict[str, str]", say: "Callable[[str], None]") -> None:
        self.say = say
        self.text, self.places = labelled(text, labels)
        self.steps = instructions(self.text)
        self.lines = [(number, line) for number, line in instructions(text)]
        self.step = 0
        self.rest = ""
        self.output = []  # type: List[str]
        self.image = ""

    def build(self, socket: str, tag: str, network: str, credentials: Credentials) -> str:
        """Id of the image. Raises Failed that names the step and its line."""
        wish = {"t": tag, "rm": "1", "forcerm": "1", "version": "1", "networkmode": network, "shmsize": str(1 << 30)}
        target = "/build?" + urlencode(wish, quote_via=quote)
        headers = dict({"Content-Type": "application/x-tar"}, **credentials.for_build())
        progress = Progress(self.say)
        for event in engine.events(socket, target, self._context(), headers, _STEP_SECONDS):
            if event.get("error"):
                self._lines("\n")
                raise Failed(self._why(str(event["error"]), event.get("errorDetail") or {}, credentials))
            if event.get("stream"):
                self._lines(str(event["stream"]))
            elif event.get("status"):
                progress.note(event)
            self.image = str((event.get("aux") or {}).get("ID") or self.image)
        if not self.image:
            raise Failed("the engine made no image of the Dockerfile, and does not say why")
        return self.image

    def _context(self) -> bytes:
        data, buffer = self.text.encode("utf-8"), io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
        return buffer.getvalue()

    def _lines(self, text: str) -> None:
        """Show whole lines as they come. What a step says is set apart: a line of it that speaks of an error may be no error."""
        *whole, self.rest = (self.rest + text).split("\n")
        for line in whole:
            match = _STEP.match(line)
            if match and int(match.group(1)) == self.step + 1:
                self.step, self.output = int(match.group(1)), []
                number, instruction = self._place()
                if not instruction.startswith("LABEL runstead."):
                    self.say("+ Dockerfile line %d: %s" % (number, instruction[:300]))
            elif line == " ---> Using cache":
                if not self._place()[1].startswith("LABEL runstead."):
                    self.say("  cached")
            elif line.strip() and not _QUIET.match(line):
                self.output = (self.output + [_COLOURS.sub("", line).rstrip()])[-200:]
                self.say("| " + line)

    def _place(self) -> "Tuple[int, str]":
        if not 1 <= self.step <= len(self.steps):
            return 0, ""
        number, text = self.steps[self.step - 1]
        return self.places[number - 1], text

    def _why(self, said: str, detail: "Dict[str, Any]", credentials: Credentials) -> str:
        number, text = self._place()
        if not number:
            # It was not even begun: the engine names lines of the text as it was sent.
            fixed = re.sub(r"\bline (\d+)", lambda m: "line %d" % self._original(int(m.group(1))), said, flags=re.I)
            return "Dockerfile: %s" % re.sub(r"^[Dd]ockerfile parse error:? ?(on )?", "", fixed)
        head = "Dockerfile line %d (%s)" % (number, text[:160] + ("…" if len(text) > 160 else ""))
        if text.upper().startswith("FROM") and not self.output:
            name = text.split()[-1 if len(text.split()) == 2 else 1]
            return "%s: %s" % (
                head,
                why_not_pulled(name, said, bool(credentials) and registry_of(name) == credentials.address),
            )
        if "no space left on device" in said:
            return "%s: the disk of the Docker engine is full. Free some space, then retry." % head
        if detail.get("code") is not None:
            last = next((line for line in self.output if _ERROR.match(line)), self.output[-1] if self.output else "")
            return "%s failed with code %s. %s" % (head, detail["code"], last.strip())
        if text.upper().startswith(("COPY", "ADD")):
            said += ". Nothing but the Dockerfile is sent: fetch files in a RUN step, or keep them in the project"
        return "%s: %s" % (head, said)

    def _original(self, line: int) -> int:
        return self.places[line - 1] if 1 <= line <= len(self.places) else line
