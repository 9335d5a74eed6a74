"""Environment, volumes, logs, addresses, images, paths."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from sandbox.fargate.addresses import PodAddresses, claim_network
from sandbox.fargate.clock import parse_rfc3339
from sandbox.fargate.environment import (
    Configuration,
    ConfigurationError,
    PodFacts,
    configuration,
    references,
    resolve,
)
from sandbox.fargate.expansion import expand
from sandbox.fargate.images import Image, default_images, find_image
from sandbox.fargate.isolation import BindMount, ContainerSpec, substitute, visible_runtime
from sandbox.fargate.logs import ContainerLog, LogQuery, last_text, move_aside, previous_log, read_log
from sandbox.fargate.pod import Container, Volume
from sandbox.fargate.sizes import Size
from sandbox.fargate.volumes import (
    FileContent,
    Inputs,
    VolumeError,
    folder_bytes,
    payload,
    token_sources,
    volume_references,
    write_payload,
)
from tests.support.pods import container, pod, resources


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$(C)", "$(C)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A ${A} $", "$A ${A} $"),
        ("$(A", "$(A"),
    ],
)
def test_expansion(text: str, result: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == result


def _facts(one: dict[str, Any] | None = None) -> PodFacts:
    found = pod(one or container(resources=resources("1", "1Gi")), labels={"a": 'say "x"', "b": "2"})
    return PodFacts(found, "node-1", "127.9.0.1", "127.0.0.1", Size(1000, 2048))


SECRET = Configuration("Secret", "s", {"k": b"v", "not a name=": b"x"})


def _env(*variables: dict[str, Any], sources: tuple[dict[str, Any], ...] = ()) -> dict[str, str]:
    one = Container.model_validate(container(env=list(variables), envFrom=list(sources)))
    return resolve(one, _facts(), {("Secret", "s"): SECRET}, {"BASE": "b"})


def _from(name: str, **origin: Any) -> dict[str, Any]:
    return {"name": name, "valueFrom": origin}


def test_variables_see_those_before_them() -> None:
    env = _env({"name": "X", "value": "$(BASE)$(LATER)"}, {"name": "LATER", "value": "l"})
    assert env == {"BASE": "b", "X": "b$(LATER)", "LATER": "l"}


def test_env_from_takes_what_is_a_name() -> None:
    assert _env(sources=({"secretRef": {"name": "s"}, "prefix": "P_"},)) == {"BASE": "b", "P_k": "v"}
    assert _env(sources=({"secretRef": {"name": "no", "optional": True}},)) == {"BASE": "b"}
    with pytest.raises(ConfigurationError, match='configmap "no" not found'):
        _env(sources=({"configMapRef": {"name": "no"}},))


@pytest.mark.parametrize(
    ("reference", "error"),
    [
        ({"name": "no", "key": "k"}, 'secret "no" not found'),
        ({"name": "s", "key": "no"}, "couldn't find key no in Secret s"),
    ],
)
def test_missing_keys(reference: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError, match=error):
        _env(_from("X", secretKeyRef=reference))
    assert "X" not in _env(_from("X", secretKeyRef=reference | {"optional": True}))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "p"),
        ("metadata.labels['b']", "2"),
        ("metadata.labels['none']", ""),
        ("metadata.labels", 'a="say \\"x\\""\nb="2"'),
        ("spec.nodeName", "node-1"),
        ("status.podIP", "127.9.0.1"),
        ("status.hostIP", "127.0.0.1"),
        ("spec.serviceAccountName", "default"),
    ],
)
def test_downward_fields(path: str, value: str) -> None:
    assert _env(_from("X", fieldRef={"fieldPath": path}))["X"] == value


def test_unknown_field_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="not supported"):
        _env(_from("X", fieldRef={"fieldPath": "spec.containers"}))


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"containerName": "main", "resource": "limits.memory"}, str(1024**3)),
        ({"containerName": "main", "resource": "limits.memory", "divisor": "1Mi"}, "1024"),
        ({"containerName": "main", "resource": "requests.cpu", "divisor": "1m"}, "1000"),
        # Without a limit it is what the pod has.
        ({"resource": "limits.memory", "divisor": "1Mi"}, "2048"),
        ({"resource": "limits.cpu", "divisor": "1"}, "1"),
        ({"resource": "requests.memory"}, "0"),
    ],
)
def test_resource_fields(reference: dict[str, str], value: str) -> None:
    assert _env(_from("X", resourceFieldRef=reference))["X"] == value


def test_references_are_found() -> None:
    one = Container.model_validate(
        container(
            env=[_from("A", secretKeyRef={"name": "s", "key": "k"}), {"name": "B", "value": "x"}],
            envFrom=[{"configMapRef": {"name": "c"}}],
        )
    )
    assert references(one) == {("Secret", "s"), ("ConfigMap", "c")}


def test_secrets_are_decoded_and_configmaps_not() -> None:
    raw = {"metadata": {"name": "n"}, "data": {"a": "aGk="}, "immutable": True}
    assert configuration("Secret", raw) == Configuration("Secret", "n", {"a": b"hi"}, immutable=True)
    raw = {"metadata": {"name": "n"}, "data": {"a": "aGk="}, "binaryData": {"b": "/w=="}}
    assert configuration("ConfigMap", raw).content == {"a": b"aGk=", "b": b"\xff"}


def _volume(**kind: Any) -> Volume:
    return Volume.model_validate({"name": "v", **kind})


def _inputs() -> Inputs:
    return Inputs(_facts(), {("Secret", "s"): SECRET}, {("aud", 600): "token"})


def test_volume_payloads() -> None:
    assert payload(_volume(emptyDir={}), _inputs()) is None
    items = [{"key": "k", "path": "deep/name", "mode": 0o400}]
    assert payload(_volume(secret={"secretName": "s", "items": items}), _inputs()) == {
        "deep/name": FileContent(b"v", 0o400)
    }
    assert payload(_volume(configMap={"name": "no", "optional": True}), _inputs()) == {}
    with pytest.raises(VolumeError, match='configmap "no" not found'):
        payload(_volume(configMap={"name": "no"}), _inputs())
    with pytest.raises(VolumeError, match="non-existent secret key"):
        payload(_volume(secret={"secretName": "s", "items": [{"key": "z", "path": "z"}]}), _inputs())


def test_projected_volume_joins_its_sources() -> None:
    sources = [
        {"secret": {"name": "s", "items": [{"key": "k", "path": "k"}]}},
        {"serviceAccountToken": {"audience": "aud", "expirationSeconds": 600, "path": "token"}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    volume = _volume(projected={"sources": sources, "defaultMode": 0o440})
    files = payload(volume, _inputs())
    assert files == {
        "k": FileContent(b"v", 0o440),
        "token": FileContent(b"token", 0o440),
        "name": FileContent(b"p", 0o440),
    }
    assert [one.path for one in token_sources([volume])] == ["token"]
    assert volume_references([volume]) == {("Secret", "s")}


def _seen(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.startswith("..")}


def test_payload_is_replaced_by_one_rename(tmp_path: Path) -> None:
    folder = tmp_path / "v"
    assert write_payload(folder, {"a": FileContent(b"1", 0o400), "b": FileContent(b"1", 0o644)})
    before = (folder / "..data").readlink()
    assert (folder / "a").readlink() == Path("..data/a")
    assert (folder / "a").stat().st_mode & 0o777 == 0o400
    assert not write_payload(folder, {"a": FileContent(b"1", 0o400), "b": FileContent(b"1", 0o644)})
    assert (folder / "..data").readlink() == before
    assert write_payload(folder, {"a": FileContent(b"2", 0o400), "c/d": FileContent(b"3", 0o644)})
    assert (folder / "..data").readlink() != before
    assert not (folder / before).exists()
    assert (folder / "a").read_bytes() == b"2"
    assert (folder / "c" / "d").read_bytes() == b"3"
    assert not (folder / "b").is_symlink()
    assert write_payload(folder, {})
    assert _seen(folder) == {}


def test_folder_bytes_counts_blocks(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "f").write_bytes(b"x" * 100_000)
    assert 100_000 <= folder_bytes(tmp_path) < 200_000
    assert folder_bytes(tmp_path / "absent") == 0


async def _read(file: Path, **options: Any) -> str:
    return b"".join([piece async for piece in read_log(file, LogQuery(**options), None)]).decode()


async def test_log_form_and_cuts(tmp_path: Path) -> None:
    file = tmp_path / "c.log"
    log = ContainerLog(file)
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"err\n")
    log.write("stdout", b"o\nthree")
    log.close()
    lines = [line.split(" ", 1)[1] for line in file.read_text().splitlines()]
    assert lines == ["stdout F one", "stderr F err", "stdout F two", "stdout F three"]
    assert await _read(file) == "one\nerr\ntwo\nthree\n"
    assert await _read(file, tail_lines=2) == "two\nthree\n"
    assert await _read(file, tail_lines=0) == ""
    assert await _read(file, tail_lines=99) == "one\nerr\ntwo\nthree\n"
    assert await _read(file, limit_bytes=5) == "one\ne"
    assert await _read(file, since=4e9) == ""
    stamped = (await _read(file, timestamps=True, tail_lines=1)).split(" ")
    assert stamped[1] == "three\n"
    assert await _read(file, since=parse_rfc3339(stamped[0])) == "three\n"
    assert last_text(file, 9) == "two\nthree\n"[-9:]


async def test_long_lines_are_split_and_joined(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "c.log")
    log.write("stdout", b"x" * 40_000 + b"\nend\n")
    log.close()
    tags = [line.split(" ")[2] for line in log.file.read_text().splitlines()]
    assert tags == ["P", "P", "F", "F"]
    assert await _read(log.file) == "x" * 40_000 + "\nend\n"


async def test_each_run_has_its_file(tmp_path: Path) -> None:
    file = tmp_path / "p" / "c.log"
    for text in (b"first\n", b"second\n", b"third\n"):
        log = ContainerLog(file)
        assert (previous_log(file) is None) is (text == b"first\n")
        log.write("stdout", text)
        log.close()
    before = previous_log(file)
    assert before is not None
    assert (await _read(before), await _read(file)) == ("second\n", "third\n")
    move_aside(file.parent)
    assert not file.exists()
    assert (tmp_path / "p~1" / "c.log").exists()


def test_addresses_are_handed_out_in_order_and_reused_late() -> None:
    addresses = PodAddresses(ipaddress.IPv4Network("127.50.0.0/29"))
    first = [addresses.take() for _ in range(3)]
    assert first == ["127.50.0.1", "127.50.0.2", "127.50.0.3"]
    addresses.give_back("127.50.0.1")
    addresses.reserve("127.50.0.4")
    assert [addresses.take() for _ in range(3)] == ["127.50.0.5", "127.50.0.6", "127.50.0.1"]
    with pytest.raises(RuntimeError, match="every pod address is taken"):
        addresses.take()


def test_two_sandboxes_get_different_networks(tmp_path: Path) -> None:
    one, holder = claim_network(tmp_path)
    other, second = claim_network(tmp_path)
    try:
        assert not one.overlaps(other)
        assert ipaddress.IPv4Address("127.0.0.1") not in one
        assert one.subnet_of(ipaddress.IPv4Network("127.0.0.0/8"))
    finally:
        holder.close()
        second.close()
    again, third = claim_network(tmp_path)
    third.close()
    assert again == one


def test_images_are_found_by_name(tmp_path: Path) -> None:
    images = default_images(tmp_path / "venv" / "bin" / "python")
    packager = find_image(images, "1.dkr.example/entrypackage-packager@sha256:abc")
    assert packager is not None
    assert packager.entrypoint == ("python", "-m", "packager")
    other = find_image(images, "busybox")
    assert other is not None
    assert other.entrypoint == ()
    assert other.base_env()["PATH"].startswith(f"{tmp_path}/venv/bin:")
    assert find_image([Image(match="a*")], "b") is None


def test_without_namespaces_paths_become_the_real_ones() -> None:
    mounts = [
        BindMount(Path("/real/etc"), "/etc/app", read_only=True),
        BindMount(Path("/real/deep"), "/etc/app/deep", read_only=True),
    ]
    spec = ContainerSpec(
        ["cat", "/etc/app/x", "--file=/etc/app/deep/y", "/etc/application", "/a/etc/app"],
        {"PATH": "/etc/app", "F": "/etc/app:/etc/app/deep"},
        "/etc/app",
        mounts,
    )
    done = substitute(spec)
    assert done.argv == ["cat", "/real/etc/x", "--file=/real/deep/y", "/etc/application", "/a/etc/app"]
    assert done.env == {"PATH": "/etc/app", "F": "/real/etc:/real/deep"}
    assert done.cwd == "/real/etc"


def test_runtime_stays_visible_under_a_mount() -> None:
    mounts = [BindMount(Path("/real"), "/srv", read_only=False)]
    runtime = [Path("/srv/checkout"), Path("/srv/checkout/.venv"), Path("/usr")]
    spec = ContainerSpec(["true"], {}, "/", mounts, runtime)
    assert [mount.target for mount in visible_runtime(spec)] == ["/srv/checkout"]
