"""The connection test: each step on the real target timed, the fix beside the first that fails."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from environments.host import Host, HostError, HostLost
from environments.models import ComputeTarget
from environments.target import ISOLATION, note_probe, note_unreachable, root_of, transport_of
from environments.transports.base import TransportError

LEAST_FREE = 10**9


@dataclass(frozen=True)
class TestStep:
    title: str
    ok: bool
    detail: str
    milliseconds: float
    fix: str = ""


class _Stop(Exception):
    pass


def examine(target: ComputeTarget) -> list[TestStep]:
    """The connection test: each step timed, the first that fails is the last and names its fix. Keeps what it finds."""
    steps: list[TestStep] = []

    def step(title: str, act: Callable[[], tuple[Any, str]], fix: str) -> Any:
        begun = time.perf_counter()
        try:
            value, detail = act()
        except (TransportError, HostError, HostLost, OSError, TimeoutError) as error:
            steps.append(TestStep(title, False, str(error), (time.perf_counter() - begun) * 1000, fix))
            note_unreachable(target.pk, str(error))
            raise _Stop from error
        steps.append(TestStep(title, True, detail, (time.perf_counter() - begun) * 1000))
        return value

    with contextlib.suppress(_Stop), contextlib.ExitStack() as stack:

        def connect() -> tuple[Host, str]:
            transport = transport_of(target)
            stack.callback(transport.close)
            host = stack.enter_context(Host(transport, root_of(target)))
            return host, f"{target.transport}, root {root_of(target)}"

        def python() -> tuple[Any, str]:
            hello = host.hello()
            return hello, f"Python {hello['python']} on {hello['host']} as {hello['user']}"

        def hardware() -> tuple[Any, str]:
            facts = note_probe(target, host.probe())
            gpus = len(facts.get("gpus") or [])
            return (
                facts,
                f"{facts['cpus']} CPUs, {facts['memory'] / 1e9:.1f} GB memory, {gpus or 'no'} GPU{'' if gpus == 1 else 's'}",
            )

        def disk() -> tuple[Any, str]:
            free = facts["disk"]["free"]
            if free < LEAST_FREE:
                raise OSError(f"{free / 1e9:.1f} GB free on the disk of {root_of(target)}")
            return free, f"{free / 1e9:.1f} GB free of {facts['disk']['total'] / 1e9:.1f} GB"

        def software() -> tuple[Any, str]:
            present = [name for name, path in sorted((facts.get("tools") or {}).items()) if path]
            return present, ", ".join(present) or "no further tools"

        def apart() -> tuple[Any, str]:
            tier = facts.get("isolation") or {}
            return (
                tier,
                f"{ISOLATION.get(str(tier.get('tier')), ISOLATION['process'])[0]}: {tier.get('detail', '')}",
            )

        host = step(
            "Connect and start the agent",
            connect,
            "Check that the root folder can be written and that Python 3 is there.",
        )
        step("Python", python, "Install Python 3.6 or newer on the target.")
        facts = step("Processors, memory, GPUs", hardware, "Look at the target's own logs.")
        step("Disk", disk, f"Free at least {LEAST_FREE // 10**9} GB on the target.")
        step("Tools", software, "")
        step("Isolation", apart, "")
    return steps
