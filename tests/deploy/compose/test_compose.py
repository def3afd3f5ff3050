"""The stack of compose.yaml: whole, closed to the outside, and understood by its programs."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.real.parts import REPOSITORY

COMPOSE = REPOSITORY / "deploy" / "compose"
EXPORTERS = {"exporter": "node", "exporter-gpu": "gpu", "replay": "demo"}
"""Those of which one is there, each with its profile."""
SERVICES = (*EXPORTERS, "prometheus", "alertmanager", "grafana")


@pytest.fixture(scope="module")
def stack():
    return yaml.safe_load((COMPOSE / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(stack):
    return stack["services"]


def checked(*command: str) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def mounts(services) -> list[tuple[str, str]]:
    """Source and target of everything that is mounted."""
    found = (entry for each in services.values() for entry in each.get("volumes", []))
    return [(parts[0], parts[1]) for parts in (entry.split(":") for entry in found)]


def test_it_has_the_exporter_its_demo_and_all_that_shows_it(services):
    assert set(services) == set(SERVICES)


def test_every_mounted_path_is_in_the_repository(services):
    ours = [source for source, _ in mounts(services) if source.startswith(".")]
    assert len(ours) >= 6
    for source in ours:
        assert (COMPOSE / source).resolve().exists(), source


def test_every_named_volume_is_declared(stack, services):
    named = {source for source, _ in mounts(services) if source[0] not in "./"}
    assert named == set(stack["volumes"])


def test_dashboards_are_mounted_where_their_provider_looks(services):
    provider = yaml.safe_load(
        (REPOSITORY / "deploy/grafana/provisioning/dashboards/emissions.yaml").read_text()
    )
    path = provider["providers"][0]["options"]["path"]
    assert path in [target for _, target in mounts({"grafana": services["grafana"]})]


def test_the_data_source_names_the_service(services):
    source = yaml.safe_load(
        (REPOSITORY / "deploy/grafana/provisioning/datasources/prometheus.yaml").read_text()
    )
    name, port = source["datasources"][0]["url"].removeprefix("http://").split(":")
    assert services[name]["ports"] == [f"127.0.0.1:{port}:{port}"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_listens_on_this_machine_alone(services, name):
    assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_capability_and_writes_to_volumes_alone(services, name):
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service


@pytest.mark.parametrize("name", SERVICES[len(EXPORTERS) :])
def test_images_of_others_are_of_one_version(services, name):
    assert re.search(r":v?\d+\.\d+\.\d+$", services[name]["image"])


def test_only_one_exporter_is_ever_there(services):
    for name, profile in EXPORTERS.items():
        assert services[name]["profiles"] == [profile]
    assert "COMPOSE_PROFILES=node" in (COMPOSE / ".env").read_text()


def test_prometheus_understands_its_settings_rules_and_alerts(tmp_path):
    shutil.copy(COMPOSE / "prometheus.yml", tmp_path)
    for name in ("rules", "alerts"):
        (tmp_path / name).symlink_to(REPOSITORY / "deploy" / "prometheus" / name)
    said = checked("promtool", "check", "config", str(tmp_path / "prometheus.yml"))
    assert "rules found" in said


def test_it_scrapes_and_alerts_by_the_names_of_the_services(services):
    settings = yaml.safe_load((COMPOSE / "prometheus.yml").read_text())
    (scraped,) = settings["scrape_configs"][0]["static_configs"][0]["targets"]
    (alerted,) = settings["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]
    for name in EXPORTERS:
        assert scraped.split(":")[0] in services[name]["networks"]["default"]["aliases"]
    assert alerted.split(":")[0] in services


def test_alertmanager_understands_its_settings():
    checked("amtool", "check-config", str(COMPOSE / "alertmanager.yml"))


def test_with_gpus_it_is_the_same_exporter_and_is_handed_all_cards(services):
    given = dict(services["exporter-gpu"])
    (cards,) = given.pop("deploy")["resources"]["reservations"]["devices"]
    assert cards == {"driver": "nvidia", "count": "all", "capabilities": ["gpu", "utility"]}
    assert given == {**services["exporter"], "profiles": ["gpu"]}


@pytest.mark.parametrize("profile", EXPORTERS.values())
def test_compose_understands_it(profile):
    docker = shutil.which("docker")
    if (
        docker is None
        or subprocess.run(
            [docker, "compose", "version"], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("docker compose is not installed")
    file = Path(COMPOSE / "compose.yaml")
    checked(docker, "compose", f"--file={file}", f"--profile={profile}", "config", "--quiet")
