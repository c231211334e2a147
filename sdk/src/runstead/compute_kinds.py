"""The kinds of compute targets, and how each is attached. A pool of them is in `pool`."""

from __future__ import annotations

from .attach_arguments import AttachConfiguration, body, given, mount_of, reached, size_of, ssh_of
from .compute import ComputeTarget
from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping, Optional, Sequence, Union


class LocalCompute(ComputeTarget):
    """The studio's own machine, a process for each run."""

    type = "Local"

    @staticmethod
    def attach_configuration(
        root: Optional[str] = None, python: Optional[str] = None, slots: Optional[int] = None
    ) -> AttachConfiguration:
        """`root`: the folder below which runs lie; `python`: of the studio's agent; `slots`: runs at once."""
        return AttachConfiguration(body("local", "process", {"root": root, "python": python}, slots=slots))


class RemoteCompute(ComputeTarget):
    """A machine reached by SSH, a process for each run."""

    type = "VirtualMachine"

    @staticmethod
    def attach_configuration(
        username: str = "",
        address: Optional[str] = None,
        ssh_port: Union[int, str] = 22,
        password: str = "",
        private_key_file: str = "",
        private_key_passphrase: str = "",
        host_key_fingerprint: Optional[str] = None,
        jump_address: Optional[str] = None,
        jump_username: str = "",
        jump_port: Union[int, str] = 22,
        jump_password: str = "",
        jump_private_key_file: str = "",
        jump_private_key_passphrase: str = "",
        jump_host_key_fingerprint: Optional[str] = None,
        root: Optional[str] = None,
        python: Optional[str] = None,
        slots: Optional[int] = None,
        gpu_slots: Optional[int] = None,
        sandbox: bool = False,
        resource_id: Optional[str] = None,
    ) -> AttachConfiguration:
        """A machine by its address. The key file is read here and sent to the studio once; without a password and a key the studio
        makes a key, and the exception's `public_key` is the line to install there.

        `host_key_fingerprint`: `SHA256:…` as `ssh-keygen -lf` prints it on the machine. Without it nothing is attached; the exception
        names the one that was found. `sandbox`: have the kernel keep runs apart from each other. `resource_id` is there for scripts of
        other systems, and must be None.
        """
        if resource_id:
            raise UserError("resource_id: it names a machine of a cloud. Give the machine's address instead.")
        ssh = ssh_of(locals())
        return AttachConfiguration(
            body(
                "ssh", "process", {"root": root, "python": python, "sandbox": sandbox or None, **ssh.pop("options")},
                slots=slots, gpu_slots=gpu_slots, **ssh,
            )
        )  # fmt: skip


class DockerCompute(ComputeTarget):
    """A Docker engine, here or behind SSH; a container for each run."""

    type = "Docker"

    @staticmethod
    def attach_configuration(
        address: Optional[str] = None,
        username: str = "",
        ssh_port: Union[int, str] = 22,
        password: str = "",
        private_key_file: str = "",
        private_key_passphrase: str = "",
        host_key_fingerprint: Optional[str] = None,
        jump_address: Optional[str] = None,
        jump_username: str = "",
        jump_port: Union[int, str] = 22,
        jump_password: str = "",
        jump_private_key_file: str = "",
        jump_private_key_passphrase: str = "",
        jump_host_key_fingerprint: Optional[str] = None,
        base_image: Optional[str] = None,
        memory: Union[int, str, None] = None,
        cpus: Optional[float] = None,
        shm_size: Union[int, str, None] = None,
        pids: Optional[int] = None,
        network: Optional[str] = None,
        mounts: Sequence[Union[str, Mapping[str, Any]]] = (),
        socket: Optional[str] = None,
        root: Optional[str] = None,
        python: Optional[str] = None,
        slots: Optional[int] = None,
        gpu_slots: Optional[int] = None,
    ) -> AttachConfiguration:
        """Without `address` it is the engine of the studio's own machine. Sizes are bytes or texts like "16GB"; `mounts` are
        "/on/the/machine:/in/the/run", read-only unless ":rw" follows. The limits are each run's.
        """
        docker = {
            "base_image": base_image, "memory_bytes": size_of("memory", memory), "cpus": cpus,
            "shm_bytes": size_of("shm_size", shm_size), "pids": pids, "network": network, "socket": socket,
            "mounts": [mount_of(text) for text in mounts] or None,
        }  # fmt: skip
        return reached(locals(), "docker", {"docker": given(docker)})


class HDInsightCompute(ComputeTarget):
    """A Spark cluster: spark-submit on a machine behind SSH, or on the studio's own."""

    type = "HDInsight"

    @staticmethod
    def attach_configuration(
        username: str = "",
        address: Optional[str] = None,
        ssh_port: Union[int, str] = 22,
        password: str = "",
        private_key_file: str = "",
        private_key_passphrase: str = "",
        host_key_fingerprint: Optional[str] = None,
        jump_address: Optional[str] = None,
        jump_username: str = "",
        jump_port: Union[int, str] = 22,
        jump_password: str = "",
        jump_private_key_file: str = "",
        jump_private_key_passphrase: str = "",
        jump_host_key_fingerprint: Optional[str] = None,
        master: str = "yarn",
        spark_home: Optional[str] = None,
        deploy_mode: Optional[str] = None,
        conf: Optional[Mapping[str, Any]] = None,
        packages: Optional[Sequence[str]] = None,
        repositories: Optional[Sequence[str]] = None,
        variables: Optional[Mapping[str, str]] = None,
        root: Optional[str] = None,
        python: Optional[str] = None,
        slots: Optional[int] = None,
        gpu_slots: Optional[int] = None,
        resource_id: Optional[str] = None,
    ) -> AttachConfiguration:
        """`address`: of the machine with spark-submit, usually an edge node; without it, it is the studio's own. `master`:
        spark://host:7077, yarn, k8s://… or local[*]. The others are spark-submit's.
        """
        if resource_id:
            raise UserError("resource_id: it names a cluster of a cloud. Give the address of its head node instead.")
        spark = {
            "master": master, "home": spark_home, "deploy_mode": deploy_mode, "conf": dict(conf) if conf else None,
            "packages": list(packages) if packages else None, "repositories": list(repositories) if repositories else None,
            "variables": dict(variables) if variables else None,
        }  # fmt: skip
        return reached(locals(), "process", {"spark": given(spark)})


SparkCompute = HDInsightCompute
