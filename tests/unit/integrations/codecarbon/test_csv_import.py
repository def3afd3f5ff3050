"""Files that CodeCarbon wrote, as history: nothing shifted, doubled or made up."""

import csv
import datetime as dt
import io
from pathlib import Path

import pytest

from exporter.cli.import_ import openmetrics
from exporter.errors import ConfigError
from exporter.integrations.codecarbon import csv_import
from exporter.integrations.codecarbon.csv_import import read_history
from exporter.integrations.codecarbon.csv_validation import REQUIRED_COLUMNS
from exporter.report.forms.codecarbon import COLUMNS, csv_document
from exporter.units import MICROJOULES_PER_KWH
from tests.unit.report.test_codecarbon import made

EMISSIONS = Path(__file__).parent / "emissions"
TODAY, SHIFTED, OLD = (
    str(EMISSIONS / f"codecarbon-{version}.csv") for version in ("3.3.2", "3.3.0", "2.3.5")
)


def cells(path=TODAY, line=1):
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    return dict(zip(rows[0], rows[line], strict=True))


@pytest.fixture
def file_of(tmp_path):
    """A file of these rows, each a mapping or a list of cells."""

    def write(*rows, header=COLUMNS, prefix=""):
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(header)
        for row in rows:
            writer.writerow([row[n] for n in header] if isinstance(row, dict) else row)
        path = tmp_path / "emissions.csv"
        path.write_text(prefix + text.getvalue(), encoding="utf-8", newline="")
        return str(path)

    return write


def energy_uj(run):
    return sum(part["energy_uj"] for part in run["parts"])


def carbon_ng(run):
    return sum(part["carbon_ng"] for part in run["parts"])


@pytest.mark.parametrize("path", [TODAY, SHIFTED, OLD])
def test_each_version_is_two_runs_the_second_of_which_has_two_rows(path):
    found = read_history(path)
    assert (len(found.runs), found.superseded, found.rejected_rows, found.exporter_rows) == (
        2,
        1,
        (),
        0,
    )


@pytest.mark.parametrize("path", [TODAY, OLD])
def test_a_run_has_the_energy_and_the_kilograms_of_its_last_row(path):
    run, row = read_history(path).runs[1], cells(path, 3)
    kwh, kilograms = float(row["energy_consumed"]), float(row["emissions"])
    assert energy_uj(run) / MICROJOULES_PER_KWH == pytest.approx(kwh, rel=1e-6)
    assert carbon_ng(run) == round(kilograms * 1e12)
    (use,) = run["intensity"]
    assert (use["energy_uj"], use["carbon_ng"]) == (energy_uj(run), carbon_ng(run))
    assert use["grams_per_kwh"] == pytest.approx(kilograms * 1000 / kwh, rel=1e-4)
    assert use["zone"] == "FR"


def test_shifted_rows_are_mended_and_named():
    found = read_history(SHIFTED)
    assert found.repaired_lines == (3, 4)
    first, second = found.runs
    assert second["labels"] == first["labels"] != {}
    assert second["scope"] == "machine"


def test_a_row_of_33_cells_is_mended(file_of):
    row = {**cells(), "gpu_count": "", "gpu_model": ""}
    names = ("region", "gpu_count", "gpu_model", "longitude", "latitude")
    short = [value for name, value in row.items() if name not in names]
    assert len(short) == 33
    found = read_history(file_of(short))
    assert found.repaired_lines == (2,)
    assert found.runs == read_history(file_of(row)).runs


def test_a_row_whose_missing_cells_cannot_be_told_is_refused_with_its_line(file_of):
    row = list(cells().values())
    found = read_history(file_of(row, row[:20]))
    ((line, why, _, _),) = found.rejected_rows
    assert (line, why) == (3, "18 cells are missing, and it is unknown which")


def test_a_row_that_could_be_mended_in_two_ways_of_one_energy_has_that_energy(file_of):
    header = (*REQUIRED_COLUMNS, "region", "cpu_model")
    row = [cells()[name] for name in REQUIRED_COLUMNS]
    for last in ("texas", ""):
        found = read_history(file_of([*row, last], header=header))
        assert found.repaired_lines == (2,)
        assert energy_uj(found.runs[0]) == energy_uj(read_history(TODAY).runs[0])
        assert "cpu_model" not in found.runs[0]["labels"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cpu_energy": "inf"}, "cpu_energy cannot be 'inf'"),
        ({"cpu_energy": "9"}, "the energies add up to 9.00001 kWh"),
        ({"timestamp": "yesterday"}, "timestamp cannot be"),
        ({"timestamp": "0001-01-01"}, "timestamp cannot be"),
        ({"run_id": ""}, "run_id is missing"),
        ({"duration": "1e12"}, "duration is more than 3e+08"),
        (
            dict.fromkeys(("cpu_energy", "ram_energy", "energy_consumed"), "0"),
            "there are emissions without energy",
        ),
    ],
)
def test_a_row_that_makes_no_sense_is_refused(file_of, changes, why):
    found = read_history(file_of({**cells(), **changes}))
    ((line, said, run_id, _),) = found.rejected_rows
    assert (line, run_id) == (2, changes.get("run_id", cells()["run_id"]))
    assert said.startswith(why)
    assert found.runs == ()


@pytest.mark.parametrize(
    ("changes", "noted"),
    [
        ({"country_name": "", "country_iso_code": "ID"}, "country_iso_code 'ID' is ignored"),
        ({"country_iso_code": "ZZZ"}, "country_iso_code 'ZZZ' is ignored"),
        ({"country_name": "", "country_iso_code": "XKX"}, ""),
        ({"os": "FreeBSD-14.1-RELEASE-amd64"}, ""),
        ({"on_cloud": "False"}, ""),
        ({"on_cloud": "Y"}, ""),
        ({"gpu_count": "nan", "gpu_model": "nan"}, ""),
        ({"longitude": "2.35"}, ""),
        ({"cpu_count": "8.5", "cpu_model": "1234", "region": "7"}, ""),
        ({"python_version": "3", "codecarbon_version": "main"}, ""),
        ({"emissions_rate": "nan", "cpu_power": "-1", "water_consumed": "x"}, ""),
        ({"cloud_provider": "OVH", "cloud_region": ""}, ""),
        ({"pue": "0.5"}, "pue '0.5' is ignored"),
        ({"pue": "1e9"}, "pue '1e9' is ignored"),
        ({"pue": "nan", "wue": "-1"}, ""),
        ({"tracking_mode": "N"}, "tracking_mode 'N' is ignored"),
    ],
)
def test_a_descriptive_cell_refuses_no_energy(file_of, changes, noted):
    found = read_history(file_of({**cells(), **changes}, {**cells(), **changes, "run_id": "other"}))
    assert [energy_uj(run) for run in found.runs] == [energy_uj(read_history(TODAY).runs[0])] * 2
    assert (found.rejected_rows, found.rows_without_emissions) == ((), ())
    assert [each.startswith(f"line 2 and 1 more: {noted}") for each in found.notes] == (
        [True] if noted else []
    )


def test_two_letters_are_no_country_and_the_zone_is_unknown(file_of):
    (run,) = read_history(file_of({**cells(), "country_iso_code": "ID", "country_name": ""})).runs
    assert run["intensity"][0]["zone"] == "unknown"
    assert run["labels"]["country_iso_code"] == "ID"


@pytest.mark.parametrize("emissions", ["nan", "-1", "", "1e9", "0,5"])
def test_emissions_in_doubt_leave_the_energy_without_grams(file_of, emissions):
    found = read_history(file_of({**cells(), "emissions": emissions}))
    (run,) = found.runs
    assert energy_uj(run) == energy_uj(read_history(TODAY).runs[0])
    assert carbon_ng(run) == 0
    assert run["intensity"] == [{"zone": None, "energy_uj": energy_uj(run), "carbon_ng": 0}]
    assert [line for line, _ in found.rows_without_emissions] == [2]
    assert "emissions_run_carbon_grams_total{" not in openmetrics(found.runs, "codecarbon")


def rows_of_a_run():
    """Two rows of one run, as `flush` adds them."""
    return {**cells(line=2)}, {**cells(line=3)}


LATER = [
    {"gpu_energy": "-0.0001"},
    {"cpu_energy": "nan", "gpu_energy": ""},
    {"energy_consumed": "7"},
    {"timestamp": ""},
    {"duration": "?"},
]


@pytest.mark.parametrize("changes", LATER)
def test_a_run_whose_last_row_is_in_doubt_is_not_imported_as_its_earlier_row(file_of, changes):
    first, last = rows_of_a_run()
    found = read_history(file_of(first, {**last, **changes}))
    assert found.runs == ()
    assert [(each.line, each.run_id) for each in found.rejected_rows] == [(3, last["run_id"])]


@pytest.mark.parametrize("cells_left", [3, 4, 12, 37])
def test_a_run_whose_last_row_was_cut_off_is_not_imported_as_its_earlier_row(file_of, cells_left):
    first, last = rows_of_a_run()
    cut = list(last.values())[:cells_left]
    cut[-1] = cut[-1][:-2]
    found = read_history(file_of(cells(), first, cut))
    assert [run["run_id"] for run in found.runs] == [cells()["run_id"]]
    assert [(each.line, each.run_id) for each in found.rejected_rows] == [(4, last["run_id"])]


def test_a_run_whose_last_row_has_an_unquoted_comma_is_not_imported_as_its_earlier_row(file_of):
    first, last = rows_of_a_run()
    found = read_history(file_of(first, ["2025-01-01", "a", *list(last.values())[1:]]))
    assert (found.runs, [each.run_id for each in found.rejected_rows]) == ((), [last["run_id"]])


@pytest.mark.parametrize("changes", LATER)
def test_a_row_in_doubt_before_a_sound_one_of_its_run_loses_nothing(file_of, changes):
    first, last = rows_of_a_run()
    found = read_history(file_of({**first, **changes}, last))
    if changes.get("energy_consumed") == "7":  # more than the last row has
        assert found.runs == ()
    else:
        assert (found.rejected_rows, found.superseded) == ((), 1)
        assert energy_uj(found.runs[0]) == energy_uj(read_history(file_of(last)).runs[0])


def test_the_row_with_the_most_energy_has_all_of_a_run_that_was_started_again(file_of):
    first, last = rows_of_a_run()
    found = read_history(file_of(first, {**last, "duration": "0.001"}))
    assert energy_uj(found.runs[0]) == energy_uj(read_history(file_of(last)).runs[0])


@pytest.mark.parametrize("name", ["cpu_energy", "ram_energy", "gpu_energy", "energy_consumed"])
@pytest.mark.parametrize("blank", ["", "nan", "None"])
def test_one_blank_energy_follows_from_the_other_three(file_of, name, blank):
    (run,) = read_history(file_of({**cells(), name: blank})).runs
    assert energy_uj(run) == pytest.approx(energy_uj(read_history(TODAY).runs[0]), abs=1)


@pytest.mark.parametrize("pad", [" ", "\t", "\u00a0", "   "])
def test_padded_cells_and_names_are_read_without_their_padding(tmp_path, pad):
    lines = Path(TODAY).read_text(encoding="utf-8").splitlines()
    path = tmp_path / "emissions.csv"
    path.write_text("\n".join(line.replace(",", f"{pad},{pad}") for line in lines))
    assert read_history(str(path)) == read_history(TODAY)


def test_quoted_padded_semicolons_and_more_empty_cells_are_no_trouble(file_of, tmp_path):
    with open(TODAY, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    path = tmp_path / "emissions.csv"
    path.write_text("".join("; ".join(f'"{c}"' for c in row) + ";;\n" for row in rows))
    assert read_history(str(path)).runs == read_history(TODAY).runs


def test_files_that_were_put_together_have_each_their_own_names(tmp_path):
    path = tmp_path / "emissions.csv"
    path.write_bytes(Path(OLD).read_bytes() + Path(TODAY).read_bytes())
    assert read_history(str(path)).runs == read_history(OLD).runs + read_history(TODAY).runs


def test_a_letter_of_another_encoding_refuses_no_energy(tmp_path):
    path = tmp_path / "emissions.csv"
    path.write_bytes(Path(TODAY).read_bytes().replace(b"bert", b"b\xe9rt"))
    assert [run["name"] for run in read_history(str(path)).runs] == ["b\ufffdrt"] * 2


def test_a_row_without_energy_is_named(file_of):
    found = read_history(file_of(cells(), ["0", *[""] * (len(COLUMNS) - 1)]))
    assert (len(found.runs), found.rejected_rows[0].run_id) == (1, "")


def test_the_tables_of_zones_are_read_once_for_each_place(file_of, monkeypatch):
    asked = []
    monkeypatch.setattr(csv_import, "find_zone", lambda *place: asked.append(place) or "FR")
    assert (
        len(read_history(file_of(*[{**cells(), "run_id": str(n)} for n in range(50)])).runs) == 50
    )
    assert len(asked) == 1


def test_the_pue_is_taken_out_of_the_energy_and_stays_in_the_grams(file_of):
    row = {**cells(), "pue": "1.25"}
    plain, (run,) = read_history(file_of(cells())).runs[0], read_history(file_of(row)).runs
    assert energy_uj(run) == pytest.approx(energy_uj(plain) / 1.25, rel=1e-6)
    assert carbon_ng(run) == carbon_ng(plain)
    assert run["intensity"][0]["pue"] == 1.25


def test_zero_emissions_are_a_run(file_of):
    amounts = ("emissions", "cpu_energy", "gpu_energy", "ram_energy", "energy_consumed")
    (run,) = read_history(file_of({**cells(), **dict.fromkeys(amounts, "0")})).runs
    assert (run["parts"], run["intensity"][0]["grams_per_kwh"]) == ([], 0.0)


def test_times_are_those_of_the_zone_that_is_given():
    (run, _) = read_history(TODAY, dt.timezone(dt.timedelta(hours=2))).runs
    expected = dt.datetime.fromisoformat(cells()["timestamp"] + "+02:00").timestamp()
    assert run["ended"] == expected
    assert run["ended"] - run["started"] == pytest.approx(float(cells()["duration"]))


def test_process_mode_is_a_tree_split_by_its_clocks(file_of):
    (run,) = read_history(file_of({**cells(), "tracking_mode": "process"})).runs
    assert run["scope"] == "tree"
    assert [part["split"] for part in run["parts"]] == ["cpu_time", "memory"]


def test_the_project_is_the_name_and_the_group_of_its_runs():
    run = read_history(TODAY, node="gpu-7").runs[0]
    assert (run["name"], run["labels"]["group"]) == ("bert", "bert")
    assert (run["labels"]["node"], run["labels"]["codecarbon_version"]) == ("gpu-7", "3.3.2")


def test_a_cloud_region_is_the_zone(file_of):
    cloud = {"cloud_provider": "gcp", "cloud_region": "europe-west1", "on_cloud": "Y"}
    (run,) = read_history(file_of({**cells(), **cloud})).runs
    assert run["intensity"][0]["zone"] == "gcp:europe-west1"


def test_what_this_exporter_wrote_is_not_taken_in_again(tmp_path):
    path = tmp_path / "emissions.csv"
    path.write_text(csv_document(made()) + "\n")
    found = read_history(str(path))
    assert (found.exporter_rows, found.runs) == (1, ())


def test_a_byte_order_mark_empty_lines_and_another_order_are_no_trouble(file_of):
    path = file_of([], cells(), [""], header=tuple(sorted(COLUMNS)), prefix="\ufeff")
    assert len(read_history(path).runs) == 1


def test_hostile_names_are_cut_to_what_a_daemon_takes(file_of):
    (run,) = read_history(file_of({**cells(), "project_name": "\0\u20ac" * 500})).runs
    assert run["name"] == "\u20ac" * 66


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "git lfs pull"),
        (b"task_name,timestamp\n", "contains the tasks of a run"),
        (b"a,b\n1,2\n", "column timestamp is missing"),
        (b"\xff\xfe\x00", "is not a CSV file"),
    ],
)
def test_what_is_no_emissions_csv_is_refused_whole(tmp_path, content, why):
    path = tmp_path / "emissions.csv"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=why):
        read_history(str(path))


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_history(str(tmp_path / "none.csv"))


def test_as_openmetrics_a_run_has_its_start_and_its_end(file_of):
    row = {**cells(), "project_name": 'a\\"b"\nc', "duration": "0"}
    lines = openmetrics(
        read_history(file_of(row), dt.UTC, "gpu-7").runs * 2, "codecarbon"
    ).splitlines()
    end = dt.datetime.fromisoformat(row["timestamp"] + "+00:00").timestamp()
    series = f'{{instance="gpu-7",run_id="{row["run_id"]}",job_id="",device="cpu",id=""}}'
    assert f"emissions_run_energy_joules_total{series} 0.0 {end - 0.001:.3f}" in lines
    assert sum(line.startswith("emissions_run_energy_joules_total") for line in lines) == 4
    assert any(r'run_name="a\\\"b\"\nc"' in line for line in lines)
    assert (lines[0], lines[-1]) == ("# TYPE emissions_run_energy_joules counter", "# EOF")
