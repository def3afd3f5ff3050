"""Dashboards, rules and alerts, written by the command."""

import re
from pathlib import Path

import pytest
import yaml

from exporter.cli.main import main

ROOT = Path(__file__).resolve().parents[3]
SOURCES = {
    "dashboards": ROOT / "dashboards/generated",
    "grafana": ROOT / "deploy/grafana",
    "prometheus": ROOT / "deploy/prometheus",
}
URL = "https://git.example/emissions/docs/runbook.md"


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def alerts(folder):
    for path in folder.glob("prometheus/alerts/*.yaml"):
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def test_all_of_them_are_written_and_named(tmp_path, capsys):
    out = tmp_path / "new" / "monitoring"
    assert main(["dashboards", str(out)]) == 0
    for name, source in SOURCES.items():
        assert files(out / name) == files(source)
    assert sorted(capsys.readouterr().out.split()) == sorted(str(out / name) for name in files(out))


def test_what_is_no_alert_is_written_as_it_is(tmp_path):
    main(["dashboards", str(tmp_path)])
    for name, source in SOURCES.items():
        for file in files(source):
            if "alerts/" not in file:
                assert (tmp_path / name / file).read_bytes() == (source / file).read_bytes()


def test_alerts_link_to_the_runbook_at_the_address_that_is_given(tmp_path):
    main(["dashboards", str(tmp_path), f"--runbook.url={URL}"])
    found = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in alerts(tmp_path)}
    assert found["EmissionsCollectorDown"] == f"{URL}#emissionscollectordown"
    assert found == {name: f"{URL}#{name.lower()}" for name in found}


@pytest.mark.parametrize("given", [[], ["--runbook.url="]])
def test_without_an_address_alerts_have_no_link(tmp_path, given):
    main(["dashboards", str(tmp_path), *given])
    made = list(alerts(tmp_path))
    assert {tuple(rule["annotations"]) for rule in made} == {("summary", "description")}
    text = "".join(path.read_text() for path in tmp_path.glob("prometheus/alerts/*.yaml"))
    assert not re.search("runbook", text)


@pytest.mark.parametrize("command", [["dashboards", "x"], ["rules", "--budgets", "b.yaml"]])
@pytest.mark.parametrize(
    "url",
    ["docs/runbook.md", "git.example/runbook.md", "ftp://git.example/x", "https://", f"{URL}#x"],
)
def test_an_address_that_is_not_absolute_is_refused(command, url, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--runbook.url", url])
    assert "not an address such as https://" in capsys.readouterr().err


def test_a_file_that_was_edited_is_replaced_only_by_force(tmp_path, capsys):
    main(["dashboards", str(tmp_path)])
    mine, other = tmp_path / "dashboards/run.json", tmp_path / "dashboards/node.json"
    mine.write_text("mine")
    other.unlink()
    capsys.readouterr()
    assert main(["dashboards", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"1 of the files there would be replaced, first {mine}; " in said
    assert "--force" in said
    assert (mine.read_text(), other.exists()) == ("mine", False)
    assert main(["dashboards", str(tmp_path), "--force"]) == 0
    assert mine.read_text() != "mine"
    assert main(["dashboards", str(tmp_path)]) == 0


def test_a_place_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["dashboards", str(tmp_path / "file")]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/file/dashboards/budgets.json: cannot be written: Not a directory" in said
