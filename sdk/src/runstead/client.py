"""The classes that submit, under one name."""

from .experiment import Experiment
from .run_configuration import RunConfiguration
from .script_run_config import ScriptRunConfig
from .workspace import Workspace

__all__ = ["Experiment", "RunConfiguration", "ScriptRunConfig", "Workspace"]
