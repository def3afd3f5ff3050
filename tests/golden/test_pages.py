"""Whole pages of known hosts, byte for byte; `UPDATE_GOLDEN=1` writes them anew."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.config import AccountConfig, Config, ConvertConfig, SampleConfig
from exporter.daemon import Daemon
from exporter.expose.exposition import MetricsPage
from tests.fakes import FakeClock

HERE = Path(__file__).parent
SHIPPED = HERE.parents[1] / "exporter" / "data" / "replay"
VOLATILE = re.compile(
    r"^(process_|emissions_(loop|collector)_duration_seconds|emissions_exporter_build_info)"
)
"""Metrics that depend on the machine that runs the test."""


def stable(page: str) -> str:
    lines = page.splitlines(keepends=True)
    return "".join(line for line in lines if not VOLATILE.match(line))


def assert_parsed(page: MetricsPage) -> None:
    """Parse both formats, and check that they have the same values."""

    def values(families: Iterable[Metric]) -> dict[tuple[object, ...], float]:
        return {
            (sample.name, *sorted(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    text = values(parse_text(page.text().decode()))
    assert text == values(parse_openmetrics(page.openmetrics().decode())) != {}


@pytest.mark.parametrize("host", ["amd-intel", "two-socket"])
def test_page_of_a_recorded_host(host, tmp_path):
    config = Config(
        SampleConfig(replay=str(SHIPPED / f"{host}.json")),
        convert=ConvertConfig(zone="DE", pue=1.2),
        account=AccountConfig(state_directory=str(tmp_path)),
    )
    clock = FakeClock()
    app = Daemon(config, {}, clock)
    app.pipeline.tick()
    for _ in range(450):
        clock.advance(1)
        app.pipeline.tick()
    page = stable(app.publisher.current.metrics_page.text().decode())
    app.close()
    expected = HERE / f"{host}.metrics"
    if os.environ.get("UPDATE_GOLDEN"):
        expected.write_text(page)
    assert page == expected.read_text()
