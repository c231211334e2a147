"""A compute target reached: its stream opened, its health noted, what must stay hidden there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from environments.host import Host
from environments.models import ComputeTarget
from environments.transports import TRANSPORTS
from environments.transports.base import Transport, TransportError
from studio.database import storable
from studio.queues import ring

FRESH = timedelta(minutes=2)

# What each tier of isolation means to people: a title and a sentence.
ISOLATION = {
    "landlock": (
        "Kernel sandbox",
        "Runs are kept by Landlock from the studio's files and from each other's: they reach their own folder, the machine's "
        "programs and the network. Otherwise they have the rights of {user}.",
    ),
    "container": (
        "Container",
        "Each run has a container of its own on the machine's engine: it sees its own folder, its environment's image, the "
        "mounts that this target allows and the network, and nothing else of the machine.",
    ),
    "process": (
        "Process only",
        "Runs are processes of {user}, with an environment of their own and nothing more between them and that user's "
        "files. Let only people submit who may read all that this user may read, or use another target.",
    ),
}


@dataclass(frozen=True)
class Isolation:
    """What keeps runs on a target apart. ``tier``: a key of ISOLATION, or empty while it is not known; ``detail``: how it is known."""

    tier: str
    title: str
    text: str
    detail: str


def isolation_of(target: ComputeTarget, facts: Mapping[str, Any]) -> Isolation:
    """What holds there, by the target's settings and by what was tried on the machine."""
    found = facts.get("isolation") or {}
    tier, detail = str(found.get("tier", "")), sentence(str(found.get("detail", "")))
    if target.launcher == "docker":
        tier, detail = "container", ""
    elif tier == "landlock" and not sandboxed(target):
        tier, detail = (
            "process",
            "The kernel there could keep runs apart from each other: the option sandbox has it do so.",
        )
    if tier not in ISOLATION:
        return Isolation("", "Not known yet", "It is found out by the first test.", "")
    title, text = ISOLATION[tier]
    user = "the studio's user"
    if target.transport == "ssh":
        user = f"the user {(target.options.get('ssh') or {}).get('user', '')}"
    return Isolation(tier, title, text.format(user=user), detail)


def sentence(text: str) -> str:
    """The text with a capital at its beginning and a full stop at its end."""
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if not text or text.endswith((".", "?")) else ".")


def root_of(target: ComputeTarget) -> str:
    """The folder on the target below which everything of the studio lies."""
    return str(target.options.get("root") or settings.LOCAL_ROOT)


def hidden_paths() -> list[str]:
    """What a run on the studio's own machine has no business with: all of the data directory but the target's part."""
    return [str(path) for path in Path(settings.DATA_DIR).iterdir() if path != settings.LOCAL_ROOT]


def isolated(target: ComputeTarget, root: str) -> list[str]:
    """What scripts on the target are kept away from, besides what the agent hides below its root by itself: everything but their
    own. ``root`` is the real one. In a container nothing else is to be seen anyway."""
    if not sandboxed(target):
        return []
    return [*hidden_paths(), root] if target.transport == "local" else [root]


def sandboxed(target: ComputeTarget) -> bool:
    """Whether scripts there are confined by the kernel, where it can.

    On this machine always: the studio's key lies here. On a remote one where somebody asked for it, since it has a price: a confined
    script cannot create new names directly in the folders on the way to the root, the home folder among them.
    """
    if target.launcher == "docker":
        return False
    return target.transport == "local" or bool(target.options.get("sandbox"))


def transport_of(target: ComputeTarget) -> Transport:
    """The way to a target, not opened yet. Raises TransportError where its kind is not known."""
    make = TRANSPORTS.get(target.transport)
    if make is None:
        raise TransportError(
            f"transport: {target.transport!r} is not known. Use one of: {', '.join(TRANSPORTS)}.",
            permanent=True,
        )
    return make(target.options, target.get_credentials())


@contextmanager
def open_target(target: ComputeTarget) -> Iterator[Host]:
    """A connection to the target's agent, closed at the end. Raises TransportError when there is none to be had."""
    transport = transport_of(target)
    try:
        with Host(transport, root_of(target)) as host:
            yield host
    finally:
        transport.close()


# -- the root folder -----------------------------------------------------------------------------------------------------


class RootChanged(TransportError):
    """Another folder, or none, is where the target's root was. What lies in the old one is neither lost nor found."""

    def __init__(self, host: Host) -> None:
        super().__init__(
            f"The root folder {host.root} is not the one it was: its runs are not in it.",
            permanent=True,
            code="root_changed",
            fix="Check that its disk is mounted there. If the folder is meant to be new, accept it; the runs that were in the old "
            "one are then given up.",
        )


def check_root(target: ComputeTarget, host: Host, *, in_use: bool) -> None:
    """Compare the root folder with the one that was there before. Raises RootChanged when it is another one that should hold
    runs (``in_use``); otherwise it is remembered."""
    found = str(host.hello().get("root_id") or "")
    with transaction.atomic():
        row = ComputeTarget.objects.select_for_update().get(pk=target.pk)
        known = str(row.facts.get("root_id") or "")
        if found == known:
            return
        if known and in_use:
            raise RootChanged(host)
        if found:
            row.facts["root_id"] = target.facts["root_id"] = found
            row.save(update_fields=["facts"])


def accept_new_root(target: ComputeTarget) -> None:
    """A person says that the folder which is there now is meant. What was launched in the old one is given up."""
    with transaction.atomic():
        row = ComputeTarget.objects.select_for_update().get(pk=target.pk)
        row.facts.pop("root_id", None)
        row.save(update_fields=["facts"])
        ring(target.pk)
    target.facts.pop("root_id", None)


# -- health --------------------------------------------------------------------------------------------------------------


def note_reached(target: ComputeTarget) -> None:
    """The target answers."""
    now = timezone.now()
    ComputeTarget.objects.filter(pk=target.pk).update(last_seen_at=now, unreachable_since=None, last_error="")
    target.last_seen_at, target.unreachable_since, target.last_error = now, None, ""


def note_probe(target: ComputeTarget, found: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what the agent's ``probe`` found out about the machine; return it."""
    facts = {name: value for name, value in found.items() if name not in {"id", "ok"}}
    known = ComputeTarget.objects.values_list("facts", flat=True).get(pk=target.pk)
    if known.get("root_id"):
        facts["root_id"] = known["root_id"]
    ComputeTarget.objects.filter(pk=target.pk).update(facts=facts)
    target.facts = facts
    note_reached(target)
    return facts


def note_unreachable(target_id: int, error: str) -> None:
    """It does not answer. Since when is kept from the first time on."""
    rows = ComputeTarget.objects.filter(pk=target_id)
    rows.filter(unreachable_since=None).update(unreachable_since=timezone.now())
    rows.update(last_error=storable(error)[:2000])


@dataclass(frozen=True)
class Health:
    tone: str
    """``ok``, ``warn`` or ``idle``: the words of the style sheet."""
    words: str
    verb: str = ""
    since: datetime | None = None
    """The moment of which ``verb`` speaks: ``seen`` 4 s ago, ``since`` 2 h ago."""


def health(target: ComputeTarget) -> Health:
    """Computed, not stored: only facts are rows."""
    if target.unreachable_since is not None:
        return Health(
            "warn",
            "Not reachable",
            "last seen" if target.last_seen_at else "since",
            target.last_seen_at or target.unreachable_since,
        )
    if target.quarantined_at is not None:
        return Health("warn", "Quarantined", "", target.quarantined_at)
    if target.last_seen_at is None:
        return Health("idle", "Not seen yet")
    if not target.enabled:
        return Health("idle", "Draining", "seen", target.last_seen_at)
    if timezone.now() - target.last_seen_at > FRESH:
        # Nobody keeps a connection to a target that has nothing to do. That is no fault, and no proof of health either.
        return Health("idle", "Idle", "last seen", target.last_seen_at)
    return Health("ok", "Online", "seen", target.last_seen_at)
