"""Rendered metrics, byte for byte against prometheus_client."""

import gzip
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.utils import floatToGoString

from exporter.expose.exposition import (
    MetricsRenderer,
    SnapshotPublisher,
    escape_label,
    format_number,
)
from exporter.expose.metrics import MetricFamily, metric_families
from exporter.expose.process_collector import ProcessState
from exporter.expose.prometheus_collector import PrometheusCollector
from exporter.expose.snapshot_view import SnapshotView
from exporter.model.runs import RunKey

FAMILIES = metric_families(("team",))
PROCESS = ProcessState(1.25, 40_000_000, 17, 1_790_000_000.5)
HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "\\", "\n", '\\"', "\\n", "}", '"} 1\nevil 2\n', "# HELP", "\r", "\u2028", "\0"]
)


def registry_of(view, families=FAMILIES):
    registry = CollectorRegistry()
    registry.register(PrometheusCollector(families, lambda: view))
    return registry


@pytest.fixture
def view(made):
    return SnapshotView(made.gpu_node(), PROCESS)


def test_text_is_that_of_prometheus_client(view):
    page = MetricsRenderer(FAMILIES).render(view)
    assert page.text() == generate_latest(registry_of(view))


def test_openmetrics_is_that_of_prometheus_client(view):
    page = MetricsRenderer(FAMILIES).render(view)
    assert page.openmetrics() == openmetrics.generate_latest(registry_of(view))


def test_a_second_render_with_kept_prefixes_is_the_same(view):
    renderer = MetricsRenderer(FAMILIES)
    assert renderer.render(view).text() == renderer.render(view).text()


def test_openmetrics_is_read_by_its_parser(view):
    text = MetricsRenderer(FAMILIES).render(view).openmetrics().decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert "emissions_run_energy_joules" in names
    assert "emissions_run_cumulative_energy_joules" in names


@settings(deadline=None)
@given(run_id=HOSTILE, job_id=HOSTILE, name=HOSTILE, label=HOSTILE)
def test_hostile_texts_arrive_as_they_are(made, run_id, job_id, name, label):
    key = RunKey(1, run_id, job_id)
    run = made.run(key, name=name, labels=(("team", label),))
    view = SnapshotView(made.snapshot(runs=(run,), devices=(made.state(made.CPU),)))
    page = MetricsRenderer(FAMILIES).render(view)
    assert page.text() == generate_latest(registry_of(view))
    families = text_string_to_metric_families(page.openmetrics().decode())
    (info,) = next(family for family in families if family.name == "emissions_run_info").samples
    values = {key: value for key, value in info.labels.items() if key.startswith(("run", "job"))}
    assert values == {"run_id": run_id, "job_id": job_id, "run_name": name}
    assert info.labels["label_team"] == label


@given(st.floats() | st.integers(-(2**70), 2**70))
def test_numbers_are_formatted_as_by_prometheus_client(number):
    assert format_number(number) == floatToGoString(number)


@pytest.mark.parametrize(
    "number", [0, -0.0, 999_999.9, 1e6, 1_000_000.5, 1e15 + 0.5, 1e16, 1.5e300, math.inf, math.nan]
)
def test_edge_case_numbers_are_formatted_as_by_prometheus_client(number):
    assert format_number(number) == floatToGoString(number)


def test_invalid_utf8_does_not_break_the_page(made):
    name = b"run\xff".decode("utf-8", "surrogateescape")
    view = SnapshotView(made.snapshot(runs=(made.run(RunKey(1, name, "")),)))
    text = MetricsRenderer(FAMILIES).render(view).text().decode()
    assert r'run_id="run\\udcff"' in text


def test_a_help_text_may_hold_anything(made):
    hostile = 'Says "no", \\ and\nmore.'
    family = MetricFamily("x", "gauge", hostile, (), lambda _: [((), 1)])
    view = SnapshotView(made.snapshot())
    page = MetricsRenderer([family]).render(view)
    assert page.text() == generate_latest(registry_of(view, [family]))
    assert page.openmetrics() == openmetrics.generate_latest(registry_of(view, [family]))


def test_families_without_samples_are_left_out(made):
    text = MetricsRenderer(FAMILIES).render(SnapshotView(made.snapshot())).text()
    assert b"run_info" not in text
    assert b"grid_intensity" not in text
    assert b"process_cpu" not in text


def test_the_identity_holds_on_the_page(view):
    sums = {}
    for family in parse_text(MetricsRenderer(FAMILIES).render(view).text().decode()):
        for sample in family.samples:
            device = (sample.labels.get("device"), sample.labels.get("id"))
            sums[sample.name, device] = sums.get((sample.name, device), 0) + sample.value
    for state in view.snapshot.devices:
        device = tuple(state.info.device)
        whole = sums["emissions_device_energy_joules_total", device]
        runs = sums["emissions_attributed_energy_joules_total", device]
        rest = sums["emissions_unattributed_energy_joules_total", device]
        assert whole == pytest.approx(runs + rest, rel=1e-12)


def test_cached_prefixes_of_removed_series_are_dropped(made):
    renderer = MetricsRenderer(FAMILIES)
    for number in range(5):
        run = made.run(RunKey(1, f"run-{number}", ""))
        renderer.render(SnapshotView(made.snapshot(runs=(run,))))
    (info,) = [w for w in renderer._writers if w._family.name == "emissions_run_info"]
    assert [labels[0] for labels in info._labels] == ["run-4"]


@st.composite
def changes(draw):
    """What of the machine `gpu_node` is there in one tick."""
    return {
        "runs": draw(st.sets(st.integers(0, 1))),
        "rows": draw(st.sets(st.integers(0, 9))),
        "devices": draw(st.sets(st.integers(0, 3))),
        "power_watts": draw(st.sampled_from([None, 0.0, 2.5])),
        "energy_uj": draw(st.integers(0, 2)),
        "ended": draw(st.booleans()),
        "pods": draw(st.integers(0, 2)),
    }


def changed(made, change):
    node = made.gpu_node()
    runs = [node.runs[index] for index in sorted(change["runs"])]
    if change["ended"]:
        runs = [run._replace(ended=made.WALL) for run in runs]
    rows = [
        made.row(*node.rows[index][:2], change["energy_uj"], power_watts=change["power_watts"])
        if index % 2
        else node.rows[index]
        for index in sorted(change["rows"])
    ]
    return node._replace(
        runs=tuple(runs),
        rows=tuple(rows),
        devices=tuple(node.devices[index] for index in sorted(change["devices"])),
        members={made.BERT: tuple((f"pod-{n}", "main") for n in range(change["pods"]))},
    )


@settings(deadline=None)
@given(st.lists(changes(), min_size=2, max_size=5))
def test_a_page_made_with_cached_lines_is_that_of_a_new_renderer(made, ticks):
    publisher = SnapshotPublisher(FAMILIES)
    for change in ticks:
        snapshot = changed(made, change)
        publisher.publish(snapshot)
        fresh = MetricsRenderer(FAMILIES).render(SnapshotView(snapshot))
        assert publisher.current.metrics_page.text() == fresh.text()


def test_families_are_selected_by_name(view):
    page = MetricsRenderer(FAMILIES).render(view)
    names = ["emissions_pue_ratio", "emissions_loop_overruns_total", "nothing"]
    chosen = page.select(names, openmetrics=False).decode()
    assert [family.name for family in parse_text(chosen)] == [
        "emissions_pue_ratio",
        "emissions_loop_overruns",
    ]


def test_a_choice_in_openmetrics_ends_as_it_must(view):
    page = MetricsRenderer(FAMILIES).render(view)
    assert page.select([], openmetrics=True) == b"# EOF\n"


@pytest.mark.parametrize("as_openmetrics", [False, True])
def test_compressed_is_the_same_page(view, as_openmetrics):
    page = MetricsRenderer(FAMILIES).render(view)
    packed = page.gzipped(openmetrics=as_openmetrics)
    assert gzip.decompress(packed) == page.body(openmetrics=as_openmetrics)


def test_label_values_are_escaped():
    assert escape_label('a\\b"c\nd') == r"a\\b\"c\nd"
