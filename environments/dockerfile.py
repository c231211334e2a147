"""A Dockerfile, looked at before an engine sees it: what would surely fail is said at its line.

There is no build context: the text is all there is.
"""

import difflib
import re
from collections.abc import Iterator

MAX_BYTES = 64 * 1024
INSTRUCTIONS = frozenset({
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "RUN",
    "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
})  # fmt: skip
_HEREDOC = re.compile(r"(?<!<)<<(-?)\s*([\"']?)([A-Za-z_][A-Za-z0-9_]*)\2")
_REMOTE = re.compile(r"(https?|ftp)://|git@", re.IGNORECASE)
NO_CONTEXT = (
    "takes files from a build context, and there is none: the text is all that is sent. "
    "Fetch them in a RUN, or leave them in the project folder, which every run has."
)


def check(text: str) -> list[tuple[int, str, str]]:
    """What is wrong, as (line number from 1, the line, the rule and the fix); empty when nothing is."""
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        return [(1, "", f"longer than {MAX_BYTES // 1024} KB. Shorten it; large scripts belong into the image below.")]
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", line.removesuffix("\r")):
            return [(number, line[:200], "holds a control character. Type the line again.")]
    bad: list[tuple[int, str, str]] = []
    stages: set[str] = set()
    based = False
    number = 1
    for number, instruction, rest in instructions(text):
        word = instruction.upper()
        shown = f"{instruction} {rest}"[:200].strip()
        if word not in INSTRUCTIONS:
            near = difflib.get_close_matches(word, INSTRUCTIONS, 1)
            hint = f"Did you mean {near[0]}?" if near else "A line begins with one, such as FROM or RUN."
            bad.append((number, shown, f"{instruction[:40]!r} is not an instruction. {hint}"))
        elif not rest:
            bad.append((number, shown, f"{word} needs something after it. Complete or remove the line."))
        elif word == "FROM":
            based = True
            if stage := re.search(r"\sAS\s+(\S+)\s*\Z", rest, re.IGNORECASE):
                stages.add(stage[1].lower())
        elif not based and word != "ARG":
            bad.append(
                (number, shown, f"{word} comes before FROM. Begin with FROM and an image, such as python:3.12-slim.")
            )
            based = True  # said once
        elif word in {"COPY", "ADD"} and from_context(word, rest):
            bad.append((number, shown, f"{word} {NO_CONTEXT}"))
    if not bad and not based:
        what = "It has no FROM." if stages or re.search(r"^\s*[^#\s]", text, re.MULTILINE) else "It is empty."
        bad.append((number, "", f"{what} Begin with FROM and an image, such as python:3.12-slim."))
    return bad


def from_context(word: str, rest: str) -> bool:
    """Whether a COPY or ADD wants a file that only a build context has."""
    words = rest.split()
    while words and words[0].startswith("--"):
        if words.pop(0).startswith("--from="):
            return False
    if _HEREDOC.search(rest):
        return False
    sources = words[:-1]
    if rest.lstrip().startswith("["):
        sources = re.findall(r'"([^"]*)"', rest)[:-1]
    return not (
        word == "ADD" and sources and all(_REMOTE.match(source) or source.endswith(".git") for source in sources)
    )


def instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """(line number from 1, first word, the rest with continued lines joined) of each instruction."""
    lines = text.removeprefix("\ufeff").splitlines()
    escape, place = "\\", 0
    if lines and (directive := re.match(r"#\s*escape\s*=\s*([\\`])\s*\Z", lines[0], re.IGNORECASE)):
        escape = directive[1]
    while place < len(lines):
        first, joined = place + 1, ""
        goes_on = True
        while goes_on and place < len(lines):
            line = lines[place]
            place += 1
            if line.lstrip().startswith("#") or (joined and not line.strip()):
                goes_on = bool(joined)
                continue
            stripped = line.rstrip()
            goes_on = stripped.endswith(escape)
            joined += stripped.removesuffix(escape) + (" " if goes_on else "")
        word, _, rest = joined.strip().partition(" ")
        if not word:
            continue
        if word.upper() in {"RUN", "COPY", "ADD"}:
            for dash, _, end in _HEREDOC.findall(rest):
                while place < len(lines) and (lines[place].lstrip("\t") if dash else lines[place]).rstrip() != end:
                    place += 1
                place += 1
        yield first, word, rest.strip()
