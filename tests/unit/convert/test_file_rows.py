"""Format of intensity files."""

import json

import pytest

from exporter.convert.sources.file import parse_rows
from exporter.errors import SourceError

PATH = "/etc/grid.csv"


def test_csv_with_iso_times():
    data = b"time,grams_per_kwh\n2024-01-01T00:00:00Z,300\n2024-01-01T02:00:00+01:00,250.5\n"
    assert parse_rows(data, PATH) == [(1704067200.0, 300.0), (1704070800.0, 250.5)]


def test_csv_with_unix_seconds_spaces_further_columns_and_a_byte_order_mark():
    data = b"\xef\xbb\xbftime, zone, grams_per_kwh\r\n1704067200, DE, 300\r\n\r\n"
    assert parse_rows(data, PATH) == [(1704067200.0, 300.0)]


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"values": rows}])
def test_json_as_a_list_or_under_values(wrap):
    rows = [{"time": "2024-01-01T00:00Z", "grams_per_kwh": 300}]
    assert parse_rows(json.dumps(wrap(rows)).encode(), PATH) == [(1704067200.0, 300.0)]


def test_rows_are_put_in_order_of_time():
    data = b"time,grams_per_kwh\n200,2\n100,1\n"
    assert [row.time for row in parse_rows(data, PATH)] == [100, 200]


def test_zero_is_an_intensity():
    assert parse_rows(b"time,grams_per_kwh\n100,0\n", PATH) == [(100.0, 0.0)]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("", "is empty; expected time"),
        (" \n", "is empty; expected time"),
        ("time,intensity\n1,2\n", "the header must be `time,grams_per_kwh`"),
        ("time,grams_per_kwh\n", "has no rows"),
        ("[]", "has no rows"),
        ("time,grams_per_kwh\n100,1\n100,2\n", "two rows for the time 100"),
        ("time,grams_per_kwh\n100,1\n200,-1\n", "line 3: '-1' is not an intensity"),
        ("time,grams_per_kwh\n100,nan\n", "line 2: 'nan' is not an intensity"),
        ("time,grams_per_kwh\n100,inf\n", "line 2: 'inf' is not an intensity"),
        ("time,grams_per_kwh\n100,many\n", "line 2: 'many' is not a number of g/kWh"),
        ("time,grams_per_kwh\n100\n", "line 2: None is not a number of g/kWh"),
        ("time,grams_per_kwh\n2024-01-01T00:00,1\n", "has no time zone, add Z or +00:00"),
        ("time,grams_per_kwh\nyesterday,1\n", "line 2: Invalid isoformat string: 'yesterday'"),
        ("time,grams_per_kwh\n1704067200000,1\n", "is not in seconds since 1970"),
        ("time,grams_per_kwh\nnan,1\n", "is not in seconds since 1970"),
        ('time,grams_per_kwh\n"' + "x" * 200_000 + '",1\n', "line 2: field larger than"),
        ('[{"time": 100}]', "row 1: 'grams_per_kwh' is missing"),
        ("[7]", "row 1: 'time' is missing"),
        ('[{"time": 100, "grams_per_kwh": true}]', "row 1: True is not a number of g/kWh"),
        ('[{"time": 100, "grams_per_kwh": NaN}]', "row 1: nan is not an intensity"),
        ('[{"time": 100, "grams_per_kwh": 1' + "0" * 400 + "}]", "row 1: int too large"),
        ('{"rows": []}', "expected a list of rows"),
        ('[{"time": 100,', "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
    ],
)
def test_errors_name_file_and_place(data, found):
    with pytest.raises(SourceError) as refusal:
        parse_rows(data.encode(), PATH)
    assert str(refusal.value).startswith(PATH)
    assert found in str(refusal.value)


def test_what_is_not_text_is_rejected():
    with pytest.raises(SourceError, match="is not UTF-8 text"):
        parse_rows(b"\xff\xfe\x00", PATH)
