"""The command `intensity`."""

import json

import pytest

from exporter.cli import intensity
from exporter.cli.main import main
from exporter.client.errors import AgentUnreachable

NOW = 1_735_733_400.0
HOUR = 3600.0
FACTOR = {
    "zone": "DE",
    "source": "Electricity Maps",
    "grams_per_kwh": 300.0,
    "basis": "lifecycle",
}


def state(ahead=(), **more):
    forecast = [
        {"start": NOW + at, "end": NOW + at + HOUR, "grams_per_kwh": number, "estimated": True}
        for at, number in ahead
    ]
    why = "electricity_maps: 300 g/kWh (lifecycle), Electricity Maps"
    found = {"at": NOW, "factor": FACTOR, "why": why, "forecast": forecast, "second": None}
    return found | more


@pytest.fixture
def daemon(monkeypatch):
    """A daemon that says what a test wants; asked by its socket."""
    said = {}

    class Agent:
        def __init__(self, socket):
            said["socket"] = socket

        def intensity(self):
            if "state" not in said:
                raise AgentUnreachable("nobody listens")
            return said["state"]

    monkeypatch.setattr(intensity, "AgentClient", Agent)
    return said


@pytest.fixture
def says(capsys):
    """Runs the command; its exit code and its lines."""

    def run(*arguments):
        code = main(["intensity", *arguments])
        return code, capsys.readouterr().out.splitlines()

    return run


FALLING = [(0, 300.0), (HOUR, 200.0), (2 * HOUR, 100.0)]


def test_it_says_the_value_and_where_it_comes_from(daemon, says):
    daemon["state"] = state()
    assert says() == (0, ["300 g/kWh in DE", state()["why"]])


def test_the_second_intensity_is_said_beside_it(daemon, says):
    daemon["state"] = state(second={"why": "watttime: 500 g/kWh (direct), WattTime"})
    assert says()[1][-1] == "second intensity: watttime: 500 g/kWh (direct), WattTime"


def test_without_a_value_it_says_why_and_fails(daemon, says):
    daemon["state"] = state(
        factor=None, why="uk has no value; the carbon counter does not increase"
    )
    assert says() == (
        1,
        ["no carbon intensity", "uk has no value; the carbon counter does not increase"],
    )


def test_the_greenest_window_is_named_with_what_it_saves(daemon, says):
    daemon["state"] = state(FALLING)
    code, lines = says("--forecast", "3h", "--duration", "1h")
    assert (code, lines[2:]) == (
        0,
        [
            (
                "lowest for 1 h 0 min: from 2025-01-01 14:10:00 to 2025-01-01 15:10:00 UTC, "
                "100 g/kWh on average"
            ),
            "starting now: 300 g/kWh on average",
            "saving compared with starting now: 67 %",
        ],
    )


def test_the_window_ends_within_the_time_that_is_looked_ahead(daemon, says):
    daemon["state"] = state(FALLING)
    assert "to 2025-01-01 13:40:00 UTC, 250 g/kWh" in says("--forecast", "90m")[1][2]


def test_a_duration_alone_looks_as_far_as_the_forecast_goes(daemon, says):
    daemon["state"] = state(FALLING)
    assert "150 g/kWh on average" in says("--duration", "2h")[1][2]


@pytest.mark.parametrize(
    ("ahead", "arguments"),
    [
        ((), ["--forecast", "24h"]),
        (FALLING, ["--duration", "4h"]),
        (FALLING, ["--forecast", "1h", "--duration", "2h"]),
    ],
)
def test_without_a_forecast_that_is_long_enough_it_says_so_and_fails(
    daemon, says, ahead, arguments
):
    daemon["state"] = state(ahead)
    code, lines = says(*arguments)
    assert code == 1
    assert lines[-1].startswith("no forecast covers --duration")


def test_as_json_it_is_the_answer_of_the_daemon_with_the_window(daemon, says):
    daemon["state"] = state(FALLING)
    code, lines = says("--format", "json", "--duration", "1h")
    found = json.loads("\n".join(lines))
    assert code == 0
    assert {name: found[name] for name in daemon["state"]} == daemon["state"]
    assert found["greenest"] == {
        "start": NOW + 2 * HOUR,
        "end": NOW + 3 * HOUR,
        "grams_per_kwh": 100.0,
    }
    assert found["now"]["grams_per_kwh"] == 300
    assert found["saving_ratio"] == pytest.approx(2 / 3)


def test_as_json_without_a_window_that_is_null(daemon, says):
    daemon["state"] = state()
    code, lines = says("--format", "json", "--forecast", "24h")
    found = json.loads("\n".join(lines))
    assert (code, found["greenest"], found["now"], found["saving_ratio"]) == (1, None, None, None)


def test_an_intensity_of_nothing_saves_nothing(daemon, says):
    daemon["state"] = state([(0, 0.0), (HOUR, 0.0)], factor={**FACTOR, "grams_per_kwh": 0.0})
    assert says("--forecast", "2h")[1][-1] == "starting now: 0 g/kWh on average"


def test_a_zone_is_looked_up_in_the_tables_and_nobody_is_asked(daemon, says):
    code, lines = says("--zone", "de")
    assert (code, lines[0]) == (0, "344.1 g/kWh in DE")
    assert lines[1].startswith("yearly value of DE: 344.1 g/kWh (lifecycle)")
    assert "socket" not in daemon


def test_a_zone_as_json_has_no_infinity(says):
    _, lines = says("--zone", "DE", "--format", "json")
    assert json.loads("\n".join(lines))["factor"]["valid_until"] is None


def test_a_zone_has_no_forecast(says):
    code, lines = says("--zone", "DE", "--forecast", "24h")
    assert (code, lines[-1].startswith("no forecast")) == (1, True)


def test_a_zone_that_nobody_knows_is_refused_with_a_suggestion(capsys):
    assert main(["intensity", "--zone", "Germny"]) == 1
    assert "did you mean DE" in capsys.readouterr().err


@pytest.mark.parametrize("has_daemon", [False, True])
@pytest.mark.parametrize("as_file", [False, True])
def test_sources_that_the_command_line_configures_are_queried_without_a_daemon(
    daemon, says, tmp_path, as_file, has_daemon
):
    if has_daemon:
        daemon["state"] = state()
    flags = ["--convert.zone=FR"]
    if as_file:
        (tmp_path / "config.yaml").write_text("convert: {zone: FR}")
        flags = [f"--config.file={tmp_path / 'config.yaml'}"]
    code, lines = says(*flags)
    assert (code, lines[0].partition(" in ")[2]) == (0, "FR")
    assert lines[1].endswith("(as configured; queried by this command)")


def test_without_a_daemon_the_default_sources_are_queried(daemon, says, monkeypatch):
    monkeypatch.setenv("EMISSIONS_EXPORTER_CONVERT_ZONE", "FR")
    code, lines = says()
    assert code == 0
    assert lines[1].endswith("(no daemon answered; queried by this command)")


def test_without_a_daemon_live_sources_are_asked_and_listed(daemon, says, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        "convert: {fallback: any, sources: [{uk: {url: 'http://127.0.0.1:1'}}, world]}"
    )
    code, lines = says("--config.file", str(config), "--format", "json")
    found = json.loads("\n".join(lines))
    assert (code, found["factor"]["zone"]) == (0, "WORLD")
    (feed,) = found["sources"]
    assert (feed["name"], feed["ok"], feed["requests"]) == (
        "uk",
        False,
        {"ok": 0, "unreachable": 1},
    )


def test_a_daemon_that_was_named_and_does_not_answer_is_a_failure(daemon, capsys):
    assert main(["intensity", "--socket.path", "/run/none.sock"]) == 1
    assert "no daemon answered" in capsys.readouterr().err
    assert daemon["socket"] == "/run/none.sock"


@pytest.mark.parametrize("duration", ["24", "h", "0h", "1w", "-1h", "1h30m", ""])
def test_what_is_no_duration_is_refused(capsys, duration):
    with pytest.raises(SystemExit):
        main(["intensity", f"--forecast={duration}"])
    assert "expected a duration such as 90m, 4h or 2d" in capsys.readouterr().err


def test_what_moves_the_cursor_is_not_printed(daemon, says):
    daemon["state"] = state(why="a\x1b[2Jb")
    assert says()[1][1] == "a\ufffd[2Jb"


def test_a_zone_that_no_table_knows_is_refused_by_its_flag(capsys):
    assert main(["intensity", "--zone=Germany"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("emissions-exporter: --zone: no bundled table has 'Germany'; did you")
