"""What a target's options may say: good ones come back complete, bad ones are refused with the field, the rule and the fix."""

import pytest

from environments.models import ComputeTarget
from environments.options import OptionsError, kind_of, of_kind, validate
from environments.target import isolated

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA5mYsmvn7rXVSKBIRez73SA/nUaDk0bkRclG8elSCQ5"


def ssh(**fields) -> dict:
    return {"ssh": {"host": "gpu-box-3", "user": "train", **fields}}


def refused(transport, launcher, options, **more) -> dict[str, str]:
    with pytest.raises(OptionsError) as caught:
        validate(transport, launcher, options, **more)
    return caught.value.errors


def test_defaults_are_filled_in():
    assert validate("ssh", "process", ssh()) == {
        "root": "~/.runstead",
        "ssh": {"host": "gpu-box-3", "port": 22, "user": "train", "host_key": "", "jump": None},
    }
    assert validate("local", "process", {}) == {}


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("10.0.0.3", "10.0.0.3"),
        ("::1", "::1"),
        ("[fe80::1%eth0]", "fe80::1%eth0"),
        ("2001:db8::7", "2001:db8::7"),
        ("gpu-box-3.example.org.", "gpu-box-3.example.org."),
        ("münchen.example", "xn--mnchen-3ya.example"),
        (" spaced ", "spaced"),
    ],
)
def test_hosts_that_are_hosts(typed, kept):
    assert validate("ssh", "process", ssh(host=typed))["ssh"]["host"] == kept


@pytest.mark.parametrize(
    "host",
    [
        "", "-oProxyCommand=x", "a b", "a`id`", 'a"b', "a'b", "$(id)", "a;b", "a|b", "a\nb", "a\0b", "a\u202eb", "me@host", "a/b", "a:22",
        "10.0.0.300", "1.2.3", "a..b", "x" * 254, "\ud800", "fe80::1%-x y", 7, None, ["a"],
    ],
)  # fmt: skip
def test_hosts_that_are_none(host):
    errors = refused("ssh", "process", ssh(host=host))
    assert list(errors) == ["ssh.host"]
    assert len(errors["ssh.host"].split(". ")) >= 1
    errors["ssh.host"].encode()  # can be shown


@pytest.mark.parametrize("user", ["", "-l", "a b", "a`b", 'a"', "a'", "a@b", "a/b", "a;b", "a\n", "x" * 70, 3])
def test_users_that_are_none(user):
    assert list(refused("ssh", "process", ssh(user=user))) == ["ssh.user"]


@pytest.mark.parametrize("user", ["train", "_svc", "first.last", "DOM\\user", "box$"])
def test_users_that_are_users(user):
    assert validate("ssh", "process", ssh(user=user))["ssh"]["user"] == user


@pytest.mark.parametrize("port", [0, -1, 65536, "22x", "²", 22.5, float("nan"), float("inf"), True, [], "22 23"])
def test_ports_out_of_range(port):
    assert list(refused("ssh", "process", ssh(port=port))) == ["ssh.port"]


def test_a_jump_host_follows_the_same_rules():
    errors = refused("ssh", "process", ssh(jump={"host": "`x`", "user": "a b", "port": 99999, "agent": "yes"}))
    assert set(errors) == {"ssh.jump.host", "ssh.jump.user", "ssh.jump.port", "ssh.jump.agent"}


@pytest.mark.parametrize(
    "root",
    ["relative", "../up", "/srv/../etc", "~/../x", "~root/x", "~", "~/", "/", "/etc/x", "/proc/self/fd/8", "/a\nb", "/x" * 600],
)  # fmt: skip
def test_roots_that_are_refused(root):
    assert list(refused("ssh", "process", {**ssh(), "root": root})) == ["root"]


@pytest.mark.parametrize("python", ["python3 -c x", "a;b", "../python", "bin/python", "-x", "/opt/../python", "p`x`"])
def test_interpreters_that_are_refused(python):
    assert list(refused("ssh", "process", {**ssh(), "python": python})) == ["python"]


def test_a_host_key_is_kept_without_its_comment():
    assert validate("ssh", "process", ssh(host_key=f"{KEY} root@box"))["ssh"]["host_key"] == KEY
    assert list(refused("ssh", "process", ssh(host_key="ssh-ed25519 nonsense!"))) == ["ssh.host_key"]


@pytest.mark.parametrize(
    "image",
    [
        "x; y",
        "--privileged img",
        "-v",
        "img --pid=host",
        "img\n",
        "a b",
        "img:",
        "http://host/img",
        "img@sha256:12",
        "a" * 300,
    ],
)
def test_images_with_more_than_a_name(image):
    errors = refused("local", "docker", {"docker": {"base_image": image}})
    assert list(errors) == ["docker.base_image"]


@pytest.mark.parametrize(
    "image",
    ["python:{python}-slim", "python", "host:5000/team/name:1.2", "ghcr.io/a/b_c/d-e:latest", "a@sha256:" + "0" * 64],
)
def test_images_that_are_images(image):
    assert validate("local", "docker", {"docker": {"base_image": image}})["docker"]["base_image"] == image


@pytest.mark.parametrize(
    "source",
    [
        "/", "/proc", "/proc/1/root", "/sys", "/dev", "/dev/sda", "/var/run/docker.sock", "/run/docker.sock", "/var/run", "/var", "/run",
        "/home/me/docker.sock", "relative", "/data/../etc", "/srv/studio", "/srv/studio/db", "/srv", "",
        "/etc", "/etc/ssh", "/usr/lib", "/boot", "/bin",
    ],
)  # fmt: skip
def test_mounts_that_would_open_the_wall(source):
    options = {"docker": {"mounts": [{"source": source, "target": "/data"}]}}
    assert list(refused("local", "docker", options, data_dir="/srv/studio")) == ["docker.mounts"]


@pytest.mark.parametrize("target", ["/", "/etc", "/usr/lib", "/proc", "relative", "/a/../b"])
def test_mounts_over_what_belongs_to_the_image(target):
    options = {"docker": {"mounts": [{"source": "/data", "target": target}]}}
    assert list(refused("local", "docker", options)) == ["docker.mounts"]


@pytest.mark.parametrize(
    "name",
    ["privileged", "Privileged", "cap_add", "cap-add", "pid", "ipc", "userns", "security_opt", "devices", "pid_mode"],
)
def test_what_would_take_down_the_wall_is_no_option(name):
    errors = refused("local", "docker", {"docker": {name: True}})
    assert "wall" in errors[f"docker.{name}"]


@pytest.mark.parametrize("network", ["host", "container:other", "a b", "--x"])
def test_networks_that_are_refused(network):
    assert list(refused("local", "docker", {"docker": {"network": network}})) == ["docker.network"]


@pytest.mark.parametrize("master", ["spark://h:7077", "spark://a:1,b:2", "spark://[::1]:7077", "yarn", "local[*]", "local[2,3]", "k8s://https://h:443"])  # fmt: skip
def test_masters_that_are_masters(master):
    assert validate("local", "process", {"spark": {"master": master}})["spark"]["master"] == master


@pytest.mark.parametrize(
    "master",
    ["", "http://h:1", "spark://h", "spark://h:99999", "spark://h:1 --conf x", "yarn\n", "local[x]", "--master"],
)
def test_masters_that_are_none(master):
    assert list(refused("local", "process", {"spark": {"master": master}})) == ["spark.master"]


def test_spark_settings_are_names_of_spark_with_one_line_each():
    errors = refused(
        "local",
        "process",
        {"spark": {"master": "yarn", "conf": {"hadoop.x": "1"}, "packages": ["--jars x"], "repositories": ["ftp://x"], "deploy_mode": "x"}},
    )  # fmt: skip
    assert set(errors) == {"spark.conf", "spark.packages", "spark.repositories", "spark.deploy_mode"}
    assert "spark.conf" in refused("local", "process", {"spark": {"master": "yarn", "conf": {"spark.a": "1\n2"}}})
    assert "cluster" in str(refused("local", "process", {"spark": {"master": "spark://h:1", "deploy_mode": "cluster"}}))


def test_options_of_another_kind_are_not_dropped_in_silence():
    assert list(refused("local", "process", ssh())) == ["ssh"]
    assert list(refused("ssh", "process", {**ssh(), "docker": {}})) == ["docker"]
    assert set(refused("carrier-pigeon", "magic", {})) == {"transport", "launcher"}


@pytest.mark.parametrize("section", ["ssh", "docker", "spark", "cleaning"])
def test_a_section_that_is_no_object(section):
    transport, launcher = ("ssh" if section == "ssh" else "local"), ("docker" if section == "docker" else "process")
    assert list(refused(transport, launcher, {section: "text"})) == [section]


def test_all_that_is_wrong_is_told_at_once():
    errors = refused("ssh", "process", {"root": "x", "ssh": {"host": "-x", "port": 0}})
    assert set(errors) == {"root", "ssh.host", "ssh.port", "ssh.user"}


PACKAGES = {
    "index_url": "https://mirror.example/simple", "extra_index_urls": ["http://10.0.0.8:3141/root/pypi"], "index_secret": "mirror",
    "find_links": ["/srv/wheels", "https://mirror.example/wheels/"], "conda_channels": ["conda-forge", "file:///srv/channel"],
    "offline": True,
}  # fmt: skip


@pytest.mark.parametrize("launcher", ["process", "docker"])
def test_where_packages_come_from_is_an_option_of_every_kind(launcher):
    assert validate("local", launcher, {"packages": PACKAGES})["packages"] == PACKAGES


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("index_url", "https://ada:secret@mirror.example/simple", "credentials"),
        ("index_url", "--extra-index-url=https://x", "begins with '-'"),
        ("index_url", "file:///srv/simple", "https:// or http://"),
        ("index_url", 5, "no text"),
        ("extra_index_urls", "https://mirror.example/simple", "list of texts"),
        ("extra_index_urls", ["https://mirror.example/$(id)"], "'$'"),
        ("find_links", ["wheels"], "absolute"),
        ("find_links", ["/srv/../etc"], ".."),
        ("conda_channels", ["-c evil"], "begins with '-'"),
        ("offline", "yes", "neither true nor false"),
        ("index_secret", "ada:secret", "name of a secret"),
        ("trusted_host", "mirror.example", "not an option here"),
    ],
)
def test_where_packages_come_from_is_refused_with_its_field_and_rule(field, value, told):
    errors = refused("local", "process", {"packages": {"index_url": "https://mirror.example/simple", field: value}})
    assert list(errors) == [f"packages.{field}"]
    assert told in errors[f"packages.{field}"]


def test_a_draft_is_checked_only_where_something_was_typed():
    assert validate("ssh", "process", {}, partial=True) == {}
    assert list(refused("ssh", "process", {"ssh": {"host": ""}}, partial=True)) == ["ssh.host"]


def test_kinds_are_told_apart():
    assert kind_of("ssh", "process", {"spark": {}}) == "spark-ssh"
    assert kind_of("ssh", "docker", {}) == "docker-ssh"
    assert kind_of("local", "process", {}) == "here"
    assert of_kind("local", "docker", {"ssh": {}, "docker": {}, "typed": {}, "root": "/x"}) == {
        "docker": {},
        "root": "/x",
    }


@pytest.mark.parametrize(
    ("transport", "launcher", "options", "confined"),
    [
        ("local", "process", {}, True),
        ("local", "docker", {}, False),
        ("ssh", "process", {}, False),
        ("ssh", "process", {"sandbox": True}, True),
        ("ssh", "docker", {"sandbox": True}, False),
    ],
)
def test_scripts_are_confined_here_always_and_elsewhere_where_somebody_asked_for_it(
    transport, launcher, options, confined
):
    target = ComputeTarget(transport=transport, launcher=launcher, options=options)
    assert bool(isolated(target, "/home/ada/.runstead")) is confined


def test_the_sandbox_is_yes_or_no_and_of_remote_processes_alone():
    assert validate("ssh", "process", {**ssh(), "sandbox": True})["sandbox"] is True
    assert "neither true nor false" in refused("ssh", "process", {**ssh(), "sandbox": "yes"})["sandbox"]
    assert "sandbox" in refused("local", "process", {"sandbox": True})
    assert "sandbox" in refused("ssh", "docker", {**ssh(), "sandbox": True})


def test_links_do_not_open_the_wall(tmp_path):
    data, links = tmp_path / "data", tmp_path / "links"
    (data / "keys").mkdir(parents=True)
    links.mkdir()
    for name, place in {
        "own": data,
        "inside": data / "keys",
        "above": tmp_path,
        "root": "/",
        "run": "/var/run",
        "proc": "/proc",
    }.items():
        (links / name).symlink_to(place)
        mount = {"docker": {"mounts": [{"source": str(links / name), "target": "/data"}]}}
        assert list(refused("local", "docker", mount, data_dir=str(data))) == ["docker.mounts"]
    (tmp_path / "good").mkdir()
    (links / "good").symlink_to(tmp_path / "good")
    mount = {"docker": {"mounts": [{"source": str(links / "good"), "target": "/data"}]}}
    assert validate("local", "docker", mount, data_dir=str(data))


def test_the_engines_socket_is_not_mounted_wherever_it_is():
    docker = {"socket": "/srv/engine/api", "mounts": [{"source": "/srv/engine", "target": "/data"}]}
    assert list(refused("ssh", "docker", {**ssh(), "docker": docker})) == ["docker.mounts"]
    podman = {"mounts": [{"source": "/run/podman/podman.sock", "target": "/data"}]}
    assert list(refused("ssh", "docker", {**ssh(), "docker": podman})) == ["docker.mounts"]


def test_no_mount_lies_in_another_that_a_script_can_change():
    mounts = [{"source": "/srv/a", "target": "/a", "read_only": False}, {"source": "/srv/a/b", "target": "/b"}]
    for order in (mounts, mounts[::-1]):
        assert "/srv/a/b" in refused("local", "docker", {"docker": {"mounts": order}})["docker.mounts"]
    assert validate("local", "docker", {"docker": {"mounts": [{**mounts[0]}, {**mounts[1], "source": "/srv/ab"}]}})


def test_a_target_here_stays_out_of_the_studios_own_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "data/keys")
    data = tmp_path / "data"
    for root in (data, data / "keys", tmp_path, tmp_path / "link/x"):
        assert "studio's own" in refused("local", "process", {"root": str(root)}, data_dir=str(data))["root"]
    for root in (data / "local/second", tmp_path / "beside"):
        assert validate("local", "process", {"root": str(root)}, data_dir=str(data)) == {"root": str(root)}
    assert validate("ssh", "process", {**ssh(), "root": str(data)}, data_dir=str(data))["root"] == str(data)
