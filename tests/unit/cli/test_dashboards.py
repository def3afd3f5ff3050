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
    assert f"1 existing files differ, first {mine}; " in said
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


MINE = "scrape_configs: [{job_name: mine, basic_auth: {password: secret}}]\n"
CONFIGURATION = [
    "prometheus/prometheus.yml",
    "prometheus/budgets.example.yaml",
    "grafana/provisioning/datasources/prometheus.yaml",
    "grafana/provisioning/dashboards/emissions.yaml",
]


@pytest.mark.parametrize("name", CONFIGURATION)
@pytest.mark.parametrize("flags", [[], ["--force"]])
def test_a_configuration_that_was_changed_is_kept_and_the_new_one_is_beside_it(
    tmp_path, name, flags, capsys
):
    main(["dashboards", str(tmp_path)])
    mine = tmp_path / name
    shipped = mine.read_text()
    mine.write_text(MINE)
    mine.chmod(0o600)
    (tmp_path / f"{name}.new").write_text("that of the version before")
    capsys.readouterr()
    assert main(["dashboards", str(tmp_path), *flags]) == 0
    assert (mine.read_text(), mine.stat().st_mode & 0o777) == (MINE, 0o600)
    assert (tmp_path / f"{name}.new").read_text() == shipped
    printed = capsys.readouterr()
    assert f"{mine} was edited and is kept; the file of this version is {mine}.new" in printed.err
    assert f"{mine}.new" in printed.out.splitlines()
    assert str(mine) not in printed.out.splitlines()


def test_a_configuration_that_is_a_link_is_kept_with_what_it_links_to(tmp_path):
    main(["dashboards", str(tmp_path / "out")])
    mine = tmp_path / "mine.yml"
    mine.write_text(MINE)
    link = tmp_path / "out/prometheus/prometheus.yml"
    link.unlink()
    link.symlink_to(mine)
    assert main(["dashboards", str(tmp_path / "out"), "--force"]) == 0
    assert (link.is_symlink(), mine.read_text()) == (True, MINE)


def test_no_configuration_is_left_out_of_those_that_are_kept(tmp_path):
    main(["dashboards", str(tmp_path)])
    replaced = {
        name
        for name in files(tmp_path)
        if not name.startswith(("dashboards/", "prometheus/rules/", "prometheus/alerts/"))
    }
    assert replaced == set(CONFIGURATION)


def test_rules_of_budgets_beside_those_written_are_left_alone(tmp_path):
    main(["dashboards", str(tmp_path)])
    mine = tmp_path / "prometheus/rules/budgets.yaml"
    mine.write_text("groups: []\n")
    assert main(["dashboards", str(tmp_path), "--force"]) == 0
    assert mine.read_text() == "groups: []\n"


def test_an_upgrade_keeps_the_links_to_the_runbook_unless_told_otherwise(tmp_path):
    links = lambda: {rule["annotations"].get("runbook_url", "") for rule in alerts(tmp_path)}  # noqa: E731
    main(["dashboards", str(tmp_path), f"--runbook.url={URL}"])
    given = links()
    assert main(["dashboards", str(tmp_path)]) == 0
    next(tmp_path.glob("prometheus/alerts/health.yaml")).unlink()
    assert main(["dashboards", str(tmp_path), "--force"]) == 0
    assert links() == given
    assert main(["dashboards", str(tmp_path), "--force", "--runbook.url=http://x.example/r"]) == 0
    assert {link.partition("#")[0] for link in links()} == {"http://x.example/r"}
    assert main(["dashboards", str(tmp_path), "--force", "--runbook.url="]) == 0
    assert links() == {""}
    assert main(["dashboards", str(tmp_path)]) == 0


def test_the_scrape_job_may_have_another_name_which_an_upgrade_keeps(tmp_path):
    def jobs():
        text = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
        return set(re.findall(r'job=\\?"([^"\\]+)', text)) | set(
            re.findall(r"job_name: (\S+)", text)
        )

    main(["dashboards", str(tmp_path)])
    assert jobs() == {"emissions-exporter"}
    assert main(["dashboards", str(tmp_path), "--force", "--job=hpc/energy"]) == 0
    assert jobs() == {"hpc/energy", "emissions-exporter"}  # prometheus.yml is kept
    (tmp_path / "prometheus/prometheus.yml").unlink()
    assert main(["dashboards", str(tmp_path), "--force"]) == 0
    assert jobs() == {"hpc/energy"}


@pytest.mark.parametrize("job", ["", 'a"b', "a b", "{x}", "a\\b"])
def test_a_scrape_job_that_would_break_a_query_is_refused(job, capsys):
    with pytest.raises(SystemExit):
        main(["dashboards", "x", "--job", job])
    assert "expected letters, digits" in capsys.readouterr().err
