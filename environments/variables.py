"""Names of variables that a run may set, one rule for run configurations and environments."""

import re
from collections.abc import Mapping

MAX_VALUE_BYTES = 100_000  # the kernel takes 131,072 for one string, with its name and terminating NUL
# Set by the studio, or able to change which program runs before the script does.
RESERVED_VARIABLES = frozenset({
    "PATH", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "IFS", "BASH_ENV", "TMPDIR",
    "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "TF_CONFIG",
})  # fmt: skip
RESERVED_PREFIXES = ("RUNSTEAD_", "AZUREML_", "MLFLOW_TRACKING_", "DYLD_")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def is_bytes(text: str) -> bool:
    """Whether a program on a target can receive the text: bytes that are no UTF-8 come as Python spells them."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def check_variables(variables: Mapping[str, str], secrets: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with them as ``{"variables": message}``; empty when nothing is."""
    for name in [*variables, *secrets]:
        if not VARIABLE.match(name):
            return {
                "variables": f"{name!r} is not a variable's name. Use letters, digits and '_', not beginning with a digit."
            }
        if name in RESERVED_VARIABLES or name.startswith(RESERVED_PREFIXES):
            return {"variables": f"{name} is set by the studio. Choose another name."}
        if name == "CUDA_VISIBLE_DEVICES":
            return {"variables": f"{name} is set by the studio to the GPUs that a run is given. Ask for GPUs instead."}
        if name in variables and name in secrets:
            return {"variables": f"{name} is given twice, as a value and as a secret. Keep one."}
    for name, value in variables.items():
        if "\0" in value:
            return {"variables": f"The value of {name} holds a NUL. Remove it."}
        if not is_bytes(value):
            return {"variables": f"The value of {name} holds half of a surrogate pair, which is no text. Type it anew."}
        if len(value.encode("utf-8", "surrogateescape")) > MAX_VALUE_BYTES:
            return {"variables": f"The value of {name} is longer than {MAX_VALUE_BYTES:,} bytes. Put it in a file."}
    return {}
