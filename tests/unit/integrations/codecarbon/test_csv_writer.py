"""emissions.csv: no row is lost, shifted or doubled, whoever else writes there."""

import csv
import fcntl
import os
import threading

import pytest

from exporter.integrations.codecarbon.csv_writer import write_csv_row
from exporter.report.forms.codecarbon import COLUMNS, csv_text


def row(run_id="r1", **changes):
    return {**dict.fromkeys(COLUMNS, ""), "run_id": run_id, "duration": 1.0, **changes}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "emissions.csv")


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write(path, content):
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(content)


def append(path, made, wait_seconds=0.2):
    return write_csv_row(path, made, replacing=False, wait_seconds=wait_seconds)


def replace(path, made):
    return write_csv_row(path, made, replacing=True, wait_seconds=0.2)


def test_a_new_file_has_todays_header(path):
    append(path, row())
    with open(path, encoding="utf-8") as file:
        assert file.readline() == ",".join(COLUMNS) + "\n"
    assert len(COLUMNS) == 38


def test_a_directory_that_is_missing_is_made(tmp_path):
    append(str(tmp_path / "a" / "b" / "e.csv"), row())
    assert (tmp_path / "a" / "b" / "e.csv").exists()


def test_an_empty_file_is_begun(path):
    write(path, "\n")
    append(path, row())
    assert [each["run_id"] for each in rows(path)] == ["r1"]


def test_rows_follow_the_order_of_the_files_own_header(path):
    write(path, csv_text([sorted(COLUMNS)]))
    append(path, row(pue=1.5))
    assert rows(path)[0]["pue"] == "1.5"


def test_a_file_with_a_byte_order_mark_is_gone_on_with(path):
    write(path, "\ufeff" + csv_text([COLUMNS]))
    append(path, row())
    assert not os.path.exists(path + ".bak")


def test_a_file_with_other_columns_is_moved_aside_and_none_is_overwritten(path):
    for number in range(3):
        write(path, f"old,{number}\n")
        append(path, row())
    names = sorted(os.listdir(os.path.dirname(path)))
    assert names == [
        "emissions.csv",
        "emissions.csv.bak",
        "emissions.csv_0.bak",
        "emissions.csv_1.bak",
    ]
    with open(path + ".bak", encoding="utf-8") as file:
        assert file.read() == "old,0\n"


def test_a_line_that_was_cut_off_does_not_take_the_next_one_with_it(path):
    write(path, csv_text([COLUMNS]) + "2026-01-01T00:00:00,cut")
    append(path, row())
    assert rows(path)[-1]["run_id"] == "r1"


def test_no_name_is_a_formula_of_a_spreadsheet_and_its_row_is_found_again(path):
    replace(path, row("=1+1", project_name="@SUM(A1)", experiment_id="-2", duration=1.0))
    replace(path, row("=1+1", project_name="-x", emissions_rate=-0.5, duration=2.0))
    (found,) = rows(path)
    assert [found[name] for name in ("run_id", "project_name", "emissions_rate", "duration")] == [
        *("'=1+1", "'-x", "-0.5", "2.0")
    ]


def test_replacing_leaves_all_other_rows_as_they_are(path):
    others = 'x,"a\nb, ""c""",r0' + "," * 35 + "\n" + "short,row\n"
    write(path, csv_text([COLUMNS]) + others)
    replace(path, row(duration=1.0))
    replace(path, row(duration=2.0))
    with open(path, encoding="utf-8", newline="") as file:
        whole = file.read()
    assert others in whole
    assert [each["duration"] for each in rows(path) if each["run_id"] == "r1"] == ["2.0"]


def test_replacing_keeps_the_rights_of_the_file(path):
    append(path, row())
    os.chmod(path, 0o640)
    replace(path, row())
    assert os.stat(path).st_mode & 0o777 == 0o640


def test_names_with_anything_in_them_come_back(path):
    name = 'a,"b"\n=c\u2028'
    append(path, row(project_name=name))
    assert rows(path)[0]["project_name"] == name


def test_a_file_that_somebody_holds_gets_its_row_in_one_beside_it(path):
    append(path, row("r0"))
    with open(path, "rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        written = append(path, row("a/b"), wait_seconds=0.0)
    assert written == path.replace(".csv", "_a_b.csv")
    assert [each["run_id"] for each in rows(written)] == ["a/b"]
    assert [each["run_id"] for each in rows(path)] == ["r0"]


def test_many_writers_at_once_lose_nothing(path):
    def work(number):
        for _ in range(5):
            write_csv_row(path, row(f"own-{number}"), replacing=True, wait_seconds=60.0)
            write_csv_row(path, row("all"), replacing=False, wait_seconds=60.0)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [each["run_id"] for each in rows(path)]
    assert sorted(set(found)) == ["all", "own-0", "own-1", "own-2", "own-3"]
    assert (len(found), found.count("all")) == (24, 20)


def test_a_disk_without_room_leaves_the_file_as_it_was(path, monkeypatch):
    append(path, row("r0"))
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    with pytest.raises(OSError, match="No space"):
        append(path, row())
    assert [each["run_id"] for each in rows(path)] == ["r0"]
