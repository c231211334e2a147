"""Replacing secrets in a stream of bytes, however it is cut into pieces."""

import base64
import json
import re
from urllib.parse import quote, quote_plus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Iterable, List, Set

MASK = b"***"
SHORTEST = 8


def forms(secret: str) -> "Set[bytes]":
    """Every spelling in which a secret is looked for: as it is, base64 at any alignment, URL-quoted,
    JSON-escaped."""
    raw = secret.encode("utf-8", "surrogateescape")
    found = {raw}
    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        found.add(quoted.encode())
        found.add(re.sub("%[0-9A-F]{2}", lambda match: match.group().lower(), quoted).encode())
    text = raw.decode("utf-8", "replace")
    for escaped in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        found.add(escaped[1:-1].encode())
        found.add(escaped[1:-1].replace("/", "\\/").encode())
    found.add(repr(text)[1:-1].encode())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        found.add(encode(raw))
        for before in range(3):
            text64 = encode(b"\0" * before + raw)
            # Only those characters that are made of the secret's bits alone: the outer ones depend on its
            # neighbours.
            found.add(text64[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6])
    return {form for form in found if len(form) >= SHORTEST}


class Masker(object):
    """Masks a stream: `feed` pieces, then `finish`. The result does not depend on where the pieces were
    cut."""

    def __init__(self, secrets: "Iterable[str]") -> None:
        patterns: "Set[bytes]" = set()
        for secret in secrets:
            if len(secret) >= SHORTEST:
                patterns |= forms(secret)
        self.patterns = sorted(patterns, key=lambda pattern: (-len(pattern), pattern))
        self._longest = len(self.patterns[0]) if self.patterns else 0
        self._search = re.compile(b"|".join(re.escape(pattern) for pattern in self.patterns)).search
        self._by_first: "Dict[int, List[bytes]]" = {}
        for pattern in self.patterns:
            self._by_first.setdefault(pattern[0], []).append(pattern)
        self._kept = b""

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def feed(self, data: bytes) -> bytes:
        """What can be said of the stream so far; an end that may be the start of a secret is kept back."""
        if not self.patterns:
            return data
        data = self._kept + data
        hold = self._hold(data, 0)
        if not any(pattern in data for pattern in self.patterns):
            self._kept = data[hold:]
            return data[:hold]
        done, place = [], 0
        while True:
            if hold < place:
                hold = self._hold(data, place)
            match = self._search(data, place)
            if match is None or match.start() >= hold:
                break
            done.append(data[place : match.start()])
            done.append(MASK)
            place = match.end()
        done.append(data[place:hold])
        self._kept = data[hold:]
        return b"".join(done)

    def finish(self) -> bytes:
        """What was kept back, now that nothing follows."""
        data, self._kept = self._kept, b""
        done, place = [], 0
        while data:
            match = self._search(data, place)
            if match is None:
                break
            done.append(data[place : match.start()])
            done.append(MASK)
            place = match.end()
        done.append(data[place:])
        return b"".join(done)

    def _hold(self, data: bytes, start: int) -> int:
        """First place, at or after `start`, from which on `data` is the beginning of a longer pattern; else
        its end."""
        for place in range(max(start, len(data) - self._longest + 1), len(data)):
            candidates = self._by_first.get(data[place])
            if candidates:
                rest = data[place:]
                for pattern in candidates:
                    if len(pattern) > len(rest) and pattern.startswith(rest):
                        return place
        return len(data)
