"""Records of runs that are read from files."""

import json

import pytest

from exporter.errors import ConfigError
from exporter.report.records import read_records
from tests.unit.report.leaderboard.making import record


@pytest.fixture
def file(tmp_path):
    """Writes a document, or a text; its path."""

    def write(document):
        path = tmp_path / "record.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    return write


@pytest.mark.parametrize("form", [lambda run: run, lambda run: [run], lambda run: {"runs": [run]}])
def test_a_file_has_one_record_or_a_list_or_an_answer_of_the_daemon(file, form):
    assert read_records(file(form(record()))) == [record()]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("7", "record 1: is not a run record of version 1"),
        ([record(), {"version": 2}], "record 2: is not a run record of version 1"),
        (record(energy_uj="much"), "record 1: energy_uj: expected a number"),
        (record(carbon_ng=float("nan")), "carbon_ng: expected a number"),
        (record(ended="now"), "ended: expected a number, if any"),
        (record(run_id=7), "run_id: expected a text"),
        (record(parts=[7]), "parts: expected a list"),
        (record(parts=[{"device": "cpu", "id": "0"}]), "parts: energy_uj: expected a number"),
        (record(logged=[7]), "logged: expected names with values, if any"),
        (record(boundary={"grids": 7}), "boundary: grids: expected a list, if any"),
    ],
)
def test_what_is_no_record_is_refused_with_what_is_wrong(file, document, said):
    with pytest.raises(ConfigError, match=said):
        read_records(file(document))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_records(str(tmp_path / "nope"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not text"):
        read_records(str(tmp_path / "bytes"))
