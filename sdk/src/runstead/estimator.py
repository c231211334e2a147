"""Estimators: the older way of the reference to say what a ScriptRunConfig says."""

from __future__ import annotations

import os

from .conda_dependencies import CondaDependencies
from .distributed import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration, apply
from .environment import Environment, requirements
from .errors import NotYet, UserError
from .keywords import names_of, refuse
from .needed import file_path, mapping, whole
from .run_configuration import OWN, RunConfiguration
from .script_run_config import ScriptRunConfig
from .warned import warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, Mapping, Optional, Sequence, Union

    from .compute import ComputeTarget
    from .sections import ContainerRegistry

Mpi = MpiConfiguration
ParameterServer = TensorflowConfiguration


class Gloo(PyTorchConfiguration):
    """PyTorch's processes talk over the network."""

    def __init__(self, process_count: Optional[int] = None, node_count: int = 1) -> None:
        super().__init__("Gloo", process_count, node_count)


class Nccl(PyTorchConfiguration):
    """PyTorch's processes talk between GPUs."""

    def __init__(self, process_count: Optional[int] = None, node_count: int = 1) -> None:
        super().__init__("Nccl", process_count, node_count)


class Estimator:
    """A folder, the script in it, and the software it needs; `Experiment.submit` takes it like a ScriptRunConfig."""

    PACKAGE = ""
    """What pip calls the framework of a subclass."""

    def __init__(
        self,
        source_directory: Union[str, os.PathLike[str]],
        *,
        compute_target: Union[str, ComputeTarget, None] = None,
        vm_size: Optional[str] = None,
        vm_priority: Optional[str] = None,
        entry_script: Optional[str] = None,
        script_params: Optional[Mapping[str, Any]] = None,
        node_count: int = 1,
        process_count_per_node: int = 1,
        distributed_backend: Optional[str] = None,
        distributed_training: Any = None,
        use_gpu: bool = False,
        use_docker: bool = True,
        custom_docker_base_image: Optional[str] = None,
        custom_docker_image: Optional[str] = None,
        image_registry_details: Optional[ContainerRegistry] = None,
        user_managed: bool = False,
        conda_packages: Optional[Sequence[str]] = None,
        pip_packages: Optional[Sequence[str]] = None,
        conda_dependencies_file_path: Optional[str] = None,
        pip_requirements_file_path: Optional[str] = None,
        conda_dependencies_file: Optional[str] = None,
        pip_requirements_file: Optional[str] = None,
        environment_variables: Optional[Mapping[str, str]] = None,
        environment_definition: Optional[Environment] = None,
        inputs: Optional[Sequence[Any]] = None,
        source_directory_data_store: Any = None,
        shm_size: Optional[str] = None,
        resume_from: Any = None,
        max_run_duration_seconds: Optional[int] = None,
        framework_version: Optional[str] = None,
        **kwargs: Any,
    ) -> None:
        """`script_params`: argument → value, a value of "" makes a bare flag. `conda_dependencies_file` and `pip_requirements_file` are
        paths, below `source_directory` or as they are. `use_docker`: the target decides; an image given here asks for containers.
        Raises UserError, NotYet.
        """
        refuse(type(self).__name__, kwargs, names_of(Estimator.__init__))
        if inputs:
            raise NotYet("inputs: data stores are not mounted into runs yet. Send the data with the folder.")
        for name, value in (("vm_size", vm_size), ("vm_priority", vm_priority)):
            if value is not None:
                warn("%s means nothing here: no machine is made for a run." % name)
        self.source_directory = file_path("source_directory", source_directory)
        variables = mapping("environment_variables", environment_variables)
        node_count = whole("node_count", node_count)
        process_count_per_node = whole("process_count_per_node", process_count_per_node)
        self.run_config = RunConfiguration(script=entry_script, arguments=_arguments(script_params))
        self.run_config.target = compute_target or "local"
        self.run_config.gpus = 1 if use_gpu else 0
        self.run_config.max_run_duration_seconds = max_run_duration_seconds
        self._resume_from = resume_from
        image = custom_docker_image or custom_docker_base_image
        software = (
            conda_packages, pip_packages, conda_dependencies_file or conda_dependencies_file_path,
            pip_requirements_file or pip_requirements_file_path, image, user_managed, framework_version,
        )  # fmt: skip
        if environment_definition is not None:
            if any(software):
                raise UserError(
                    "environment_definition: packages, images and versions are the environment's own. Give either them or it."
                )
            self.run_config.environment = environment_definition
            self.run_config.environment_variables.update(variables)
        else:
            self.run_config.environment = self._software(*software, use_docker, image_registry_details)
            self.run_config.environment_variables.update(variables)
            if shm_size is not None:
                self.run_config.environment.docker.shm_size = shm_size
        self._distribute(distributed_training, distributed_backend, process_count_per_node, node_count)

    def _software(
        self,
        conda_packages: Optional[Sequence[str]],
        pip_packages: Optional[Sequence[str]],
        conda_file: Optional[str],
        pip_file: Optional[str],
        image: Optional[str],
        user_managed: bool,
        version: Optional[str],
        use_docker: bool,
        registry: Optional[ContainerRegistry],
    ) -> Environment:
        made = Environment(OWN)
        conda = CondaDependencies(self._path(conda_file)) if conda_file else CondaDependencies()
        if pip_file:
            conda.set_pip_requirements(requirements(self._path(pip_file)))
        for package in conda_packages or ():
            conda.add_conda_package(package)
        for package in pip_packages or ():
            conda.add_pip_package(package)
        made.python.conda_dependencies = conda
        made.python.user_managed_dependencies = user_managed
        if self.PACKAGE and not user_managed and not image and not self._lists(conda):
            conda.add_pip_package(self.PACKAGE + _pin(version))
        if image:
            made.docker.enabled = use_docker
            made.docker.base_image = image
            if registry is not None:
                made.docker.base_image_registry = registry
        return made

    def _lists(self, conda: CondaDependencies) -> bool:
        import re

        names = {
            re.split(r"[^\w-]", text.rpartition("::")[2])[0].lower()
            for text in (*conda.conda_packages, *conda.pip_packages)
        }
        return bool(names & {self.PACKAGE, self.PACKAGE + "-gpu", self.PACKAGE + "-cpu", "py" + self.PACKAGE})

    def _path(self, path: str) -> str:
        inner = os.path.join(self.source_directory, path)
        return inner if os.path.isfile(inner) else path

    def _distribute(self, job: Any, backend: Optional[str], processes: int, nodes: int) -> None:
        if job is None and backend is not None:
            job = self._backend(str(backend).lower(), processes)
        if job is None and (processes > 1 or nodes > 1):
            job = MpiConfiguration(processes)
        if job is not None:
            if isinstance(job, MpiConfiguration) and processes > 1:
                job.process_count_per_node = processes
            apply(self.run_config, job)
            self.run_config.node_count = max(nodes, self.run_config.node_count)

    @staticmethod
    def _backend(name: str, processes: int) -> Any:
        made = {"mpi": MpiConfiguration, "gloo": Gloo, "nccl": Nccl, "ps": TensorflowConfiguration}
        if name not in made:
            raise UserError("distributed_backend: %r is not known. Use mpi, gloo, nccl or ps." % name)
        return made[name](processes)

    @property
    def conda_dependencies(self) -> CondaDependencies:
        """The packages; what is changed in it counts."""
        return self.run_config.environment.python.conda_dependencies  # type: ignore[no-any-return]

    def script_run_config(self) -> ScriptRunConfig:
        """The same as a ScriptRunConfig."""
        return ScriptRunConfig(self.source_directory, run_config=self.run_config, resume_from=self._resume_from)

    def __repr__(self) -> str:
        return "%s(source_directory=%r, entry_script=%r)" % (
            type(self).__name__,
            self.source_directory,
            self.run_config.script,
        )


class PyTorch(Estimator):
    """With PyTorch: `framework_version` of it, else the newest that the target's Python takes."""

    PACKAGE = "torch"


class TensorFlow(Estimator):
    """With TensorFlow: `framework_version` of it, else the newest that the target's Python takes."""

    PACKAGE = "tensorflow"


class SKLearn(Estimator):
    """With scikit-learn: `framework_version` of it, else the newest that the target's Python takes."""

    PACKAGE = "scikit-learn"


def _arguments(params: Optional[Mapping[str, Any]]) -> List[Any]:
    found: List[Any] = []
    for name, value in mapping("script_params", params, "arguments and values").items():
        found.append(name)
        if not (isinstance(value, str) and value == ""):
            found.append(value)
    return found


def _pin(version: Optional[str]) -> str:
    if not version:
        return ""
    return "==" + version if version.count(".") > 1 else "==%s.*" % version
