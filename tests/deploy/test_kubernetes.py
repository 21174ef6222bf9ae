"""The manifests in deploy/kubernetes, without a cluster."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from soup.settings import Settings

FOLDER = Path(__file__).parent.parent.parent / "deploy" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
OLDEST = "1.29"  # of Kubernetes; and the newest that the validator knows

Manifest = dict[str, Any]


def manifests() -> Iterator[Manifest]:
    for file in FILES:
        yield from yaml.safe_load_all(file.read_text())


def one(kind: str, name: str) -> Manifest:
    """The only one of its kind and name."""
    (found,) = (each for each in manifests() if (each["kind"], each["metadata"]["name"]) == (kind, name))
    return found


def pods() -> Iterator[Manifest]:
    for manifest in manifests():
        if "template" in manifest.get("spec", {}):
            yield manifest["spec"]["template"]


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_kubernetes_takes_them(file: Path, version: str) -> None:
    """
    Every field is known and has a value it may have.
    """
    for manifest in yaml.safe_load_all(file.read_text()):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_is_none() -> None:
    """
    The validator would say so.
    """
    pod = one("Deployment", "soup")
    pod["spec"]["template"]["spec"]["containers"][0]["imagee"] = "soup"

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(pod, OLDEST, strict=True)


def test_pods_are_restricted() -> None:
    """
    As the standard `restricted` wants them, and with a root that is not written to.
    """
    seen = list(pods())
    assert 2 == len(seen)
    for pod in seen:
        closed = pod["spec"]["securityContext"]
        assert closed["runAsNonRoot"]
        assert (10001, 10001) == (closed["runAsUser"], closed["runAsGroup"])
        assert "RuntimeDefault" == closed["seccompProfile"]["type"]
        assert not pod["spec"]["automountServiceAccountToken"]
        assert not pod["spec"]["enableServiceLinks"]
        for container in pod["spec"]["containers"]:
            assert {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            } == container["securityContext"]


def test_what_is_named_is_there() -> None:
    """
    Ports that probes and services name, volumes that are mounted, pods that others choose.
    """
    labels = [pod["metadata"]["labels"] for pod in pods()]
    ports = set()
    for pod in pods():
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        for container in pod["spec"]["containers"]:
            named = {port["name"] for port in container["ports"]}
            ports |= named
            assert volumes == {mount["name"] for mount in container["volumeMounts"]}
            probes = [value for key, value in container.items() if key.endswith("Probe")]
            assert len(probes) >= 2
            assert named >= {probe["httpGet"]["port"] for probe in probes}
    for manifest in manifests():
        spec = manifest.get("spec", {})
        chosen = spec.get("podSelector", spec.get("selector", {}))
        chosen = chosen.get("matchLabels", chosen)
        if chosen:
            assert any(chosen.items() <= each.items() for each in labels), manifest["metadata"]
        for port in spec.get("ports", []):
            assert port["targetPort"] in ports
        for rule in spec.get("ingress", []):
            assert ports >= {port["port"] for port in rule["ports"]}


def test_budgets_are_of_what_has_a_number() -> None:
    """
    One over pods of a DaemonSet would forbid every eviction: Kubernetes cannot tell how many there should be.
    """
    budgets = [each["spec"]["selector"]["matchLabels"] for each in manifests() if "Budget" in each["kind"]]
    assert budgets
    for manifest in manifests():
        if manifest["kind"] == "DaemonSet":
            labels = manifest["spec"]["template"]["metadata"]["labels"]
            assert not [budget for budget in budgets if budget.items() <= labels.items()]


def test_everything_is_in_one_namespace() -> None:
    """
    In that of the first file.
    """
    assert {"soup"} == {each["metadata"].get("namespace", each["metadata"]["name"]) for each in manifests()}


def test_soup_takes_its_settings(tmp_path: Path) -> None:
    """
    The file in the ConfigMap is good, but for the paths of the pod; the address of the database is a secret.
    """
    file = tmp_path / "soup.yaml"
    token = tmp_path / "token"
    token.write_text("x" * 32)
    text = one("ConfigMap", "soup")["data"]["soup.yaml"].replace("/run/soup/join/token", str(token))
    file.write_text(text)

    settings = Settings.load({"DATABASE": "postgresql://soup:leek@db/soup"}, file)

    assert "postgresql://soup:leek@db/soup" == settings.database_url
    assert "0.0.0.0:8081" == settings.server.control
    assert token == settings.cdn.join.token_file


def test_control_is_not_for_everybody() -> None:
    """
    A policy says who may ask the control listener: mirrors, and monitoring.
    """
    rules = one("NetworkPolicy", "soup")["spec"]["ingress"]

    (control,) = (rule for rule in rules if {"port": "control"} in rule["ports"])
    assert [{"port": "control"}] == control["ports"]
    assert "mirror" in json.dumps(control["from"][0])
    assert "monitoring" in json.dumps(control["from"][1])
