"""The intensity file as a step of the chain."""

import os

import pytest

from exporter.convert.sources.file import MAX_FILE_BYTES, FileSource
from exporter.errors import ConfigError
from exporter.model.intensity import Accounting, Basis

HEADER = "time,grams_per_kwh\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "grid.csv"


@pytest.fixture
def follow(path, clock):
    def make(rows="100,1\n200,2\n", **settings):
        path.write_text(HEADER + rows)
        given = {
            "zone": "DE",
            "basis": Basis.DIRECT,
            "accounting": Accounting.MARKET,
            "source": "",
            "max_age_seconds": 50,
        }
        return FileSource(path=str(path), **given | settings).open(clock)

    return make


def spans(step, t0, t1):
    return [
        (row.valid_from, row.valid_until, row.grams_per_kwh) for row in step.factors_between(t0, t1)
    ]


def test_each_row_holds_until_the_next_and_the_last_for_its_greatest_age(follow):
    assert spans(follow(), 0, 1000) == [(100, 200, 1), (200, 250, 2)]


@pytest.mark.parametrize(
    ("t0", "t1", "grams_per_kwh"),
    [
        (0, 100, []),
        (100, 101, [1]),
        (150, 200, [1]),
        (150, 201, [1, 2]),
        (249, 260, [2]),
        (250, 260, []),
    ],
)
def test_only_rows_that_hold_in_the_stretch_are_given(follow, t0, t1, grams_per_kwh):
    assert [row.grams_per_kwh for row in follow().factors_between(t0, t1)] == grams_per_kwh


def test_a_last_row_that_may_not_age_never_holds(follow):
    assert spans(follow(max_age_seconds=0), 0, 1000) == [(100, 200, 1)]


def test_a_row_carries_what_the_settings_say_of_it(follow):
    row = follow(source="our contract").factors_between(100, 101)[0]
    assert (row.zone, row.source, row.as_of) == ("DE", "our contract", 100)
    assert (row.basis, row.accounting) == (Basis.DIRECT, Accounting.MARKET)


def test_without_a_source_the_file_is_named(follow):
    assert follow().factors_between(100, 101)[0].source == "grid.csv"


def test_a_changed_file_is_read_again(follow, path):
    step = follow()
    path.write_text(HEADER + "100,7777\n")
    step.refresh()
    assert spans(step, 100, 101) == [(100, 150, 7777)]


def test_a_file_that_did_not_change_is_not_read_again(follow, path):
    step = follow("100,1\n")
    before = os.stat(path)
    path.write_text(HEADER + "100,7\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    step.refresh()
    assert spans(step, 100, 101) == [(100, 150, 1)]


def test_a_file_that_turned_bad_keeps_the_last_values_and_is_reported(follow, path):
    step = follow()
    path.write_text(HEADER + "100,many\n")
    step.refresh()
    assert spans(step, 100, 101) == [(100, 200, 1)]
    assert f"{path}: line 2: 'many'" in step.why
    assert "last valid values stay in force" in step.why
    assert step.state()[:2] == ("intensity_file", False)


def test_a_bad_file_is_logged_once(follow, path, caplog):
    step = follow()
    path.unlink()
    step.refresh()
    step.refresh()
    assert len(caplog.records) == 1


def test_a_bad_file_stays_bad_until_it_changes(follow, path):
    step = follow()
    path.write_text(HEADER + "100,many\n")
    step.refresh()
    step.refresh()
    assert step.why


@pytest.mark.parametrize("spoil", ["remove", "spoil"])
def test_a_file_that_is_mended_is_used_again(follow, path, spoil):
    step = follow()
    text, before = path.read_text(), os.stat(path)
    path.write_text("nothing")
    if spoil == "remove":
        path.unlink()
    step.refresh()
    path.write_text(text)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    step.refresh()
    assert step.why == ""
    assert step.state().ok


def test_a_file_that_cannot_be_read_at_the_start_is_a_wrong_setting(tmp_path, clock):
    path = str(tmp_path / "absent.csv")
    with pytest.raises(ConfigError) as refusal:
        FileSource(path=path).open(clock)
    assert str(refusal.value).startswith(f"{path}: cannot be read: No such file")
    assert "check that it exists" in str(refusal.value)


def test_a_file_that_is_bad_at_the_start_is_a_wrong_setting(follow):
    with pytest.raises(ConfigError, match=r"grid.csv: line 2"):
        follow("100,-1\n")


def test_a_huge_file_is_rejected(follow, path):
    step = follow()
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    step.refresh()
    assert "over 16 MiB" in step.why
