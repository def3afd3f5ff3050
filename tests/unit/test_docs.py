"""The generated pages of the documentation."""

import pytest

from docs import generate
from exporter.expose.catalogue import catalogue


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setattr(generate, "HERE", tmp_path)
    return tmp_path


def test_every_metric_family_is_described():
    page = generate.metrics()
    for family in catalogue():
        assert page.count(f"| `{family.name}` |") == 1


def test_a_setting_is_shown_with_its_type_unit_default_flag_and_variable():
    row = (
        "| `interval_seconds` | number | seconds | `1` | `--sample.interval` "
        "| `EMISSIONS_EXPORTER_SAMPLE_INTERVAL_SECONDS` | Time between two looks. |"
    )
    assert row in generate.configuration()


def test_every_row_has_as_many_cells_as_its_head():
    lines = (generate.configuration() + generate.metrics()).splitlines()
    tables = [line.count(" | ") for line in lines if line.startswith("|")]
    assert set(tables) == {6, 4, 3}  # settings, options of sources, metrics


def test_what_was_written_passes_the_check(here):
    assert generate.main([]) == 0
    assert generate.main(["--check"]) == 0


def test_a_stale_page_fails_the_check_and_is_left_alone(here, capsys):
    generate.main([])
    (here / "metrics.md").write_text("old")
    assert generate.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert said == "docs/metrics.md: not made from this code, run `make docs`\n"
    assert (here / "metrics.md").read_text() == "old"
