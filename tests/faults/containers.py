"""What an engine has, asked by its own command line."""

import subprocess


def docker(*words: str, host: str = "") -> str:
    argv = ["docker", *(["-H", host] if host else []), *words]
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def containers(host: str = "") -> list[str]:
    """Names of all, running or not."""
    return docker("ps", "-a", "--format", "{{.Names}}", host=host).split()


def container_of(studio, pk: int) -> str:
    return f"runstead-{studio.run(pk)['attempt']}"
