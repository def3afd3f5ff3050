"""The chart in the repository, without helm."""

import json
from pathlib import Path

import pytest
import yaml

from deploy.helm import facts, generate
from deploy.helm.schema import schema
from deploy.helm.values import Value, values
from exporter import __version__
from exporter.convert import zones
from exporter.errors import ConfigError
from exporter.model.intensity import Basis

MANIFESTS = generate.MANIFESTS


def resolved(folder: Path) -> list[dict]:
    """The objects that a kustomization names, as kubectl would find them."""
    document = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert document.keys() == {"apiVersion", "kind", "resources"}
    found = []
    for name in document["resources"]:
        path = folder / name
        if path.is_dir():
            found += resolved(path)
        else:
            found += [each for each in yaml.safe_load_all(path.read_text()) if each]
    return found


def test_schema_and_table_are_made_from_these_values_and_settings():
    assert list(generate._stale(generate.pages())) == [], "run `make chart`"


def test_the_chart_has_the_version_of_the_program():
    chart = yaml.safe_load((generate.CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


def test_the_chart_has_every_rule_alert_and_dashboard_and_no_links():
    files = [path for path in (generate.CHART / "files").rglob("*") if not path.is_dir()]
    assert {path.parent.name for path in files} == generate.COPIES.keys()
    assert set(files) == {path for path in generate.pages() if "files" in path.parts}
    assert [path for path in generate.CHART.rglob("*") if path.is_symlink()] == []


@pytest.mark.parametrize("folder", ["", "default", "sharing", "gpu-only"])
def test_a_kustomization_names_a_namespace_with_all_that_is_in_it(folder):
    objects = resolved(MANIFESTS / folder)
    [namespace] = [each for each in objects if each["kind"] == "Namespace"]
    homes = {each["metadata"].get("namespace") for each in objects}
    assert homes == {namespace["metadata"]["name"], None}
    assert "DaemonSet" in [each["kind"] for each in objects]


def test_the_namespace_allows_what_the_profile_needs():
    for profile, level in generate.PROFILES.items():
        [namespace] = yaml.safe_load_all((MANIFESTS / profile / "namespace.yaml").read_text())
        assert namespace["metadata"]["labels"] == {"pod-security.kubernetes.io/enforce": level}


def test_plain_manifests_do_not_speak_of_helm():
    for path in MANIFESTS.glob("*/emissions-exporter.yaml"):
        assert "helm.sh" not in path.read_text()
        assert "managed-by" not in path.read_text()


def test_a_text_over_several_lines_is_joined():
    text = "# no text\na:\n  # -- One\n  # line.\n  b: 1\n\n# -- All of it.\nc: {d: 2}\n"
    assert values(text) == [Value("a.b", 1, "One line."), Value("c", {"d": 2}, "All of it.")]


def test_a_value_without_a_text_is_refused():
    with pytest.raises(ValueError, match=r"does not describe a\.c"):
        values("a:\n  # -- One.\n  b: 1\n  c: 2\n")


def test_every_object_of_the_schema_that_has_properties_is_closed():
    described = values((generate.CHART / "values.yaml").read_text())

    def walk(at):
        if isinstance(at, dict):
            assert "properties" not in at or at["additionalProperties"] is False
            for each in at.values():
                walk(each)
        elif isinstance(at, list):
            for each in at:
                walk(each)

    made = schema(described)
    assert made["properties"].pop("global")["additionalProperties"] is True
    walk(made)


def test_what_was_written_passes_the_check_and_a_stale_file_does_not(monkeypatch, tmp_path, capsys):
    page = tmp_path / "page"
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "pages", lambda: {page: "new"})
    monkeypatch.setattr(generate.shutil, "which", lambda _: None)
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().out == "page: not made from the chart, run `make chart`\n"
    assert generate.main([]) == 0
    assert page.read_text() == "new"
    assert generate.main(["--check"]) == 0


def test_the_schema_is_readable_json_of_draft_7():
    document = json.loads((generate.CHART / "values.schema.json").read_text())
    assert document["$schema"] == "http://json-schema.org/draft-07/schema#"


def default_basis(code, basis=None):
    try:
        return str(zones.find_factor(code, basis).basis)
    except ConfigError:
        return "-"


def test_the_chart_knows_of_each_zone_what_the_exporter_finds():
    known = facts.zone_facts()
    sample = [*list(known)[::40], "DE", "DEU", "UK", "GB", "SE1", "XX", "US-CA", "US-HI", "WORLD"]
    for code in (*sample, "AWS:EU-WEST-1", "ES-CN-FV"):
        country, first, bases = known[code].split(" ")
        assert first == default_basis(code), code
        for basis in (Basis.LIFECYCLE, Basis.DIRECT):
            assert (basis in bases.split(",")) is (default_basis(code, basis) == basis), code
        assert country == (zones.country_of(code) or "-")


def test_the_chart_knows_every_source_and_flag():
    assert facts.sources()["uk"] == {
        "signal": "average",
        "basis": "direct",
        "accounting": "location",
        "country": "GBR",
        "token": "",
    }
    assert facts.sources()["watttime"]["token"] == "EMISSIONS_EXPORTER_WATTTIME_PASSWORD"
    assert {"--config.file", "--no-collector.nvml", "--log.format"} <= set(facts.flags())
