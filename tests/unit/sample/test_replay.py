"""The collector `replay`."""

import json

import pytest

from exporter.errors import ConfigError
from exporter.model.readings import DeviceKind
from exporter.model.recorded_host import Curve
from exporter.sample.energy_counters import EnergyCounters
from exporter.sample.sources.replay import ReplayCollector

DEVICE = {
    "kind": "cpu",
    "id": "package-0",
    "model": "Xeon",
    "vendor": "Intel",
    "power_cap_watts": 400,
    "watts": [[0, 100], [50, 200]],
}


@pytest.fixture
def host(tmp_path):
    def build(document):
        path = tmp_path / "host.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return str(path)

    return build


def document(**changes):
    return {"period_seconds": 100, "devices": [{**DEVICE, **changes}]}


def test_counter_is_the_integral_of_the_curve_since_boot(host, clock):
    clock.boot = 25_000_000_000
    (reading,) = ReplayCollector(host(document()), clock, "boot").read().readings
    assert reading.counter_uj == 25 * 125 * 1_000_000


def test_counter_continues_over_periods(host, clock):
    clock.boot = 1_000_000_000_000
    (reading,) = ReplayCollector(host(document()), clock, "boot").read().readings
    assert reading.counter_uj == 1000 * 150 * 1_000_000


def test_counter_wraps_as_described(host, clock):
    clock.boot = 1_000_000_000_000
    (reading,) = ReplayCollector(host(document(wrap_uj=7_000_000)), clock, "boot").read().readings
    assert reading.counter_uj == 150_000_000_000 % 7_000_000


def test_two_replays_of_one_file_agree_at_every_moment(host, clock):
    path = host(document())
    one, two = ReplayCollector(path, clock, "boot"), ReplayCollector(path, clock, "boot")
    for _ in range(50):
        clock.advance(7.3)
        assert one.read() == two.read()


def test_changed_file_is_another_epoch(host, clock):
    before = ReplayCollector(host(document()), clock, "boot").read().readings[0].epoch
    after = ReplayCollector(host(document(vendor="AMD")), clock, "boot").read().readings[0].epoch
    assert before != after


def test_shipped_host_plays_two_sockets_exactly_over_a_day(replay_path, clock):
    sampler = ReplayCollector(replay_path, clock, "boot")
    kinds = [info.device.kind for info in sampler.infos]
    assert kinds == [DeviceKind.CPU, DeviceKind.CPU, DeviceKind.DRAM, DeviceKind.DRAM]
    energy_counters = EnergyCounters(())
    energy_counters.advance(sampler.read())
    start = clock.boot / 1e9
    booked = 0
    for _ in range(8640):
        clock.advance(10)
        booked += sum(interval.energy_uj for interval in energy_counters.advance(sampler.read()))
    with open(replay_path, encoding="utf-8") as file:
        content = json.load(file)
    true = sum(
        Curve(device["watts"], content["period_seconds"]).integral(start, start + 86_400)
        for device in content["devices"]
    )
    assert booked == pytest.approx(true * 1e6, abs=8)


def test_shipped_host_never_has_more_busy_threads_than_threads(replay_path):
    with open(replay_path, encoding="utf-8") as file:
        content = json.load(file)
    period = content["period_seconds"]
    runs = [(run["starts"], run["ends"], Curve(run["cpu"], period)) for run in content["workload"]]
    other = Curve(content["other_cpu"], period)
    for second in range(int(period)):
        busy = sum(cpu.at(second) for starts, ends, cpu in runs if starts <= second < ends)
        assert busy + other.at(second) <= content["threads"]
    memory = sum(run["memory_bytes"] for run in content["workload"])
    assert memory < content["memory_total_bytes"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[]", r"expected an object, found \[\]"),
        ({"devices": []}, "period_seconds: expected a number above 0, found nothing"),
        ({"period_seconds": True}, "period_seconds: expected a number above 0, found True"),
        ({"period_seconds": 9, "devices": []}, "devices: expected a list"),
        ({"period_seconds": 9, "devices": [7]}, r"devices\[0\]: expected an object"),
        (document(kind="fan"), r"devices\[0\]\.kind: expected one of gpu, cpu, dram, found 'fan'"),
        (document(id=3), r"devices\[0\]\.id: expected text, found 3"),
        (document(power_cap_watts=0), r"devices\[0\]\.power_cap_watts: expected a number above 0"),
        (document(watts=[[0, -1]]), r"devices\[0\]\.watts: expected a list of"),
        (document(watts=[]), r"devices\[0\]\.watts: a curve needs at least one point"),
        (document(watts=[[50, 1], [3, 1]]), r"devices\[0\]\.watts: times must rise"),
        (
            {"period_seconds": 100, "devices": [DEVICE, DEVICE]},
            r"devices\[1\]\.id: duplicate id 'package-0'",
        ),
    ],
)
def test_mistake_is_named_by_file_and_path(host, clock, content, message):
    path = host(content)
    with pytest.raises(ConfigError, match=message) as caught:
        ReplayCollector(path, clock, "boot")
    assert str(caught.value).startswith(path)


def test_missing_file_is_named(tmp_path, clock):
    with pytest.raises(ConfigError, match=r"nowhere\.json: cannot be read: No such file"):
        ReplayCollector(str(tmp_path / "nowhere.json"), clock, "boot")
