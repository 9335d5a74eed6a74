"""The rendered objects: rights, Pod Security, resources, names, and who sees which secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.helm import CRDS, EVERYTHING, MINIMAL, NAMESPACE, SANDBOX, Helm, Object, Rendered

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS = ("receiver", "controller")
GROUP = "benchling.quilt.bio"


def deployment(rendered: Rendered, program: str) -> Object:
    return rendered.one("Deployment", f"demo-{program}")


def pod(rendered: Rendered, program: str) -> Object:
    spec: Object = deployment(rendered, program)["spec"]["template"]["spec"]
    return spec


def rules(rendered: Rendered, program: str) -> set[tuple[str, str, str, str]]:
    """Return a Role's grants as (group, resource, verb, name)."""
    return {
        (group, resource, verb, name)
        for rule in rendered.one("Role", f"demo-{program}")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def grants(group: str, resource: str, verbs: str, name: str = "") -> set[tuple[str, str, str, str]]:
    return {(group, resource, verb, name) for verb in verbs.split()}


def test_nothing_else_is_made(minimal: Rendered) -> None:
    made = sorted((one["kind"], one["metadata"]["name"]) for one in minimal.objects)
    assert made == sorted(
        [
            ("ConfigMap", "demo-settings"),
            ("ConfigMap", "entrypackage-operator"),
            ("Ingress", "demo-receiver"),
            ("Service", "demo-receiver"),
            ("ServiceAccount", "demo-packager"),
            *((kind, f"demo-{program}") for program in PROGRAMS for kind in PER_PROGRAM),
            *(("CustomResourceDefinition", file.stem) for file in CRDS.glob("*.yaml")),
        ]
    )


PER_PROGRAM = ("Deployment", "PodDisruptionBudget", "Role", "RoleBinding", "ServiceAccount")


def test_the_receiver_may_only_file_triggers(minimal: Rendered) -> None:
    assert rules(minimal, "receiver") == grants(GROUP, "entrypackages", "get create patch")


def test_the_controller_has_exactly_what_it_uses(minimal: Rendered) -> None:
    assert rules(minimal, "controller") == (
        grants(GROUP, "entrypackages", "get list watch")
        | grants(GROUP, "entrypackages/status", "update")
        | grants("batch", "jobs", "get list watch create delete")
        | grants("", "pods", "list")
        | grants("", "secrets", "get list create delete")
        | grants("", "events", "get create patch")
        | grants("coordination.k8s.io", "leases", "create")
        | grants("coordination.k8s.io", "leases", "get update", "entrypackage-controller")
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_rights_are_bound_to_the_programs_account(minimal: Rendered, program: str) -> None:
    name = f"demo-{program}"
    binding = minimal.one("RoleBinding", name)
    assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}]
    assert pod(minimal, program)["serviceAccountName"] == name


def test_the_packager_has_a_role_in_aws_and_none_in_the_cluster(minimal: Rendered) -> None:
    account = minimal.one("ServiceAccount", "demo-packager")
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["annotations"] == {
        "eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/entrypackage-packager"
    }
    for binding in minimal.of_kind("RoleBinding"):
        assert "demo-packager" not in [subject["name"] for subject in binding["subjects"]]


@pytest.mark.parametrize("program", PROGRAMS)
def test_pods_are_restricted(minimal: Rendered, program: str) -> None:
    spec = pod(minimal, program)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert all("hostPort" not in port and port["containerPort"] != 10250 for port in container["ports"])
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} <= {
        "configMap",
        "projected",
        "emptyDir",
    }


@pytest.mark.parametrize("values", [[MINIMAL], [MINIMAL, EVERYTHING], [MINIMAL, SANDBOX]], ids=len)
def test_requests_are_limits(helm: Helm, values: list[Path]) -> None:
    containers = helm.template(*values).containers()
    assert set(containers) == set(PROGRAMS)
    for container in containers.values():
        resources = container["resources"]
        assert set(resources["requests"]) == {"cpu", "memory"}
        assert resources["requests"] == resources["limits"]


def test_secrets_are_only_named(everything: Rendered) -> None:
    assert "Secret" not in everything.kinds()
    users = [one["metadata"]["name"] for one in everything.objects if "benchling-app" in yaml.safe_dump(one)]
    assert users == ["lab-controller"]
    assert not any(
        "secretKeyRef" in yaml.safe_dump(container) or "envFrom" in container
        for container in everything.containers().values()
    )


def test_credentials_lie_where_the_settings_say(minimal: Rendered) -> None:
    folder = yaml.safe_load(minimal.settings("controller"))["benchling"]["credentialsFolder"]
    spec = pod(minimal, "controller")
    mount = next(one for one in spec["containers"][0]["volumeMounts"] if one["name"] == "settings")
    volume = next(one for one in spec["volumes"] if one["name"] == "settings")
    files = {
        f"{mount['mountPath']}/{item['path']}"
        for source in volume["projected"]["sources"]
        for part in source.values()
        for item in part["items"]
    }
    assert files == {f"{folder}/client_id", f"{folder}/client_secret", "/etc/entrypackage/controller.yaml"}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_start_with_their_settings(minimal: Rendered, program: str) -> None:
    container = minimal.containers()[program]
    assert container["command"] == ["python", "-m", program, "--settings", f"/etc/entrypackage/{program}.yaml"]
    facts = {one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"] for one in container["env"]}
    assert facts == {"POD_IP": "status.podIP", "POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}


@pytest.mark.parametrize(("program", "port"), [("receiver", "http"), ("controller", "health")])
def test_probes_ask_the_programs_own_port(minimal: Rendered, program: str, port: str) -> None:
    container = minimal.containers()[program]
    settings = yaml.safe_load(minimal.settings(program))
    assert container["ports"] == [
        {"name": port, "containerPort": settings["port" if program == "receiver" else "healthPort"]}
    ]
    probes = {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert probes == {
        "startupProbe": {"path": "/livez", "port": port},
        "livenessProbe": {"path": "/livez", "port": port},
        "readinessProbe": {"path": "/readyz", "port": port},
    }


@pytest.mark.parametrize("program", PROGRAMS)
def test_exactly_one_budget_lets_one_pod_go(minimal: Rendered, program: str) -> None:
    labels = deployment(minimal, program)["spec"]["template"]["metadata"]["labels"]
    matching = [
        budget["spec"]
        for budget in minimal.of_kind("PodDisruptionBudget")
        if budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    ]
    assert len(matching) == 1
    assert matching[0]["maxUnavailable"] == 1
    assert matching[0]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_service_finds_receivers_only(minimal: Rendered) -> None:
    selector = minimal.one("Service", "demo-receiver")["spec"]["selector"]
    packager = yaml.safe_load(minimal.settings("controller"))["packager"]["podLabels"]
    found = [
        program
        for program in PROGRAMS
        if selector.items() <= deployment(minimal, program)["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert found == ["receiver"]
    assert not selector.items() <= {**packager, "app.kubernetes.io/component": "packager"}.items()


def test_a_setting_rolls_only_the_pods_that_read_it(helm: Helm, minimal: Rendered) -> None:
    changed = helm.template(MINIMAL, sets={"receiver.settings.maxDeliveries": "7"})
    assert deployment(changed, "receiver") != deployment(minimal, "receiver")
    assert deployment(changed, "controller") == deployment(minimal, "controller")


def test_a_stopping_receiver_gets_the_time_it_takes(helm: Helm, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("receiver: {settings: {drainSeconds: 40.5, shutdownGraceSeconds: 20}}")
    rendered = helm.template(MINIMAL, values)
    assert pod(rendered, "receiver")["terminationGracePeriodSeconds"] == 66
    assert yaml.safe_load(rendered.settings("receiver"))["drainSeconds"] == 40.5


def test_users_cannot_replace_what_selects(helm: Helm) -> None:
    key = "app\\.kubernetes\\.io/component"
    rendered = helm.template(MINIMAL, sets={f"podLabels.{key}": "mine", f"commonLabels.{key}": "mine"})
    for program in PROGRAMS:
        spec = deployment(rendered, program)["spec"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_pod_labels_reach_all_pods(everything: Rendered) -> None:
    for one in everything.of_kind("Deployment"):
        assert one["spec"]["template"]["metadata"]["labels"]["profile"] == "lab"
    packager = yaml.safe_load(everything.settings("controller", "lab"))["packager"]
    assert packager["podLabels"]["profile"] == "lab"
    assert packager["podAnnotations"] == {"example.com/note": "1"}


def test_names_fit_the_longest_release(helm: Helm) -> None:
    rendered = helm.template(MINIMAL, release="r" + "x" * 51 + "y")
    for one in rendered.objects:
        if one["kind"] != "CustomResourceDefinition":
            assert len(one["metadata"]["name"]) <= 63
        for value in one["metadata"].get("labels", {}).values():
            assert len(value) <= 63


def test_images_are_named_by_tag_and_digest(minimal: Rendered, everything: Rendered) -> None:
    assert minimal.containers()["receiver"]["image"] == "entrypackage-operator/receiver:0.1.0"
    digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    repository = "registry.example.com/data/entrypackage-operator"
    assert everything.containers()["receiver"]["image"] == f"{repository}/receiver:v1.2.3@{digest}"
    packager = yaml.safe_load(everything.settings("controller", "lab"))["packager"]
    assert packager["image"] == f"{repository}/packager:v1.2.3"
    assert packager["imagePullSecrets"] == ["registry-login"]


def test_the_packager_is_told_the_region(minimal: Rendered) -> None:
    assert yaml.safe_load(minimal.settings("controller"))["packager"]["env"] == {"AWS_REGION": "us-east-1"}


def test_a_load_balancer_takes_tls_only_and_targets_pods(minimal: Rendered) -> None:
    ingress = minimal.one("Ingress", "demo-receiver")
    prefix = "alb.ingress.kubernetes.io/"
    annotations = {name.removeprefix(prefix): value for name, value in ingress["metadata"]["annotations"].items()}
    assert annotations["listen-ports"] == '[{"HTTPS":443}]'
    assert annotations["target-type"] == "ip"
    assert annotations["healthcheck-path"] == "/readyz"
    assert "TLS13" in annotations["ssl-policy"]
    assert ingress["spec"]["ingressClassName"] == "alb"
    assert ingress["spec"]["rules"][0]["host"] == "benchling.example.com"


def test_other_classes_get_no_annotations_of_it(helm: Helm) -> None:
    ingress = helm.template(MINIMAL, SANDBOX).one("Ingress", "demo-receiver")
    assert "annotations" not in ingress["metadata"]
    assert ingress["spec"]["ingressClassName"] == "sandbox"
    assert "tls" not in ingress["spec"]
    assert "host" not in ingress["spec"]["rules"][0]


def test_without_an_ingress_there_is_none(helm: Helm) -> None:
    assert "Ingress" not in helm.template(MINIMAL, sets={"receiver.ingress.enabled": "false"}).kinds()


def definitions(rendered: Rendered) -> dict[str, Any]:
    return {one["metadata"]["name"]: one for one in rendered.of_kind("CustomResourceDefinition")}


def test_definitions_are_the_generated_ones(minimal: Rendered) -> None:
    generated = {file.stem: yaml.safe_load(file.read_text()) for file in CRDS.glob("*.yaml")}
    rendered = definitions(minimal)
    assert {name: one["spec"] for name, one in rendered.items()} == {
        name: one["spec"] for name, one in generated.items()
    }
    for one in rendered.values():
        assert one["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_definitions_can_be_left_to_helm_or_out(helm: Helm) -> None:
    for one in definitions(helm.template(MINIMAL, sets={"crds.keep": "false"})).values():
        assert "helm.sh/resource-policy" not in one["metadata"].get("annotations", {})
    assert not definitions(helm.template(MINIMAL, sets={"crds.install": "false"}))


def test_one_name_marks_the_namespace(helm: Helm, minimal: Rendered) -> None:
    other = helm.template(MINIMAL, release="other")
    assert minimal.one("ConfigMap", "entrypackage-operator")["data"] == {"release": "demo"}
    assert other.one("ConfigMap", "entrypackage-operator")["data"] == {"release": "other"}
