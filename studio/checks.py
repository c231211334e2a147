"""System checks. Each message says what to do."""

import os
import stat
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register


@register()
def data_directory_is_private(**_: Any) -> list[CheckMessage]:
    mode = stat.S_IMODE(settings.DATA_DIR.stat().st_mode)
    if mode & 0o077:
        return [
            Error(
                f"The data directory {settings.DATA_DIR} can be read by other users (mode {mode:o}).",
                hint=f"Run: chmod 700 {settings.DATA_DIR}",
                id="runstead.E001",
            )
        ]
    return []


@register()
def front_end_packages_are_installed(**_: Any) -> list[CheckMessage]:
    if not (settings.NODE_MODULES / "uplot").is_dir():
        return [Error("The front-end packages are not installed.", hint="Run: make up", id="runstead.E002")]
    return []


@register()
def secret_key_is_not_an_example(**_: Any) -> list[CheckMessage]:
    if len(settings.SECRET_KEY) < 32:
        return [
            Error(
                "RUNSTEAD_SECRET_KEY is shorter than 32 characters.",
                hint="Unset it (one is generated in the data directory), or make one: "
                "python3 -c 'import secrets; print(secrets.token_urlsafe(48))'",
                id="runstead.E003",
            )
        ]
    return []


@register()
def not_run_as_root(**_: Any) -> list[CheckMessage]:
    if os.geteuid() == 0 and not os.environ.get("CI") and settings.DEBUG:
        return [
            Warning(
                "The studio runs as root, so local runs do too.",
                hint="Start it as an ordinary user.",
                id="runstead.W001",
            )
        ]
    return []
