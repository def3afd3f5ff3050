"""The node's power from a real Prometheus, published by a real daemon."""

import json
import re
from contextlib import ExitStack

import pytest

from tests.real.parts import Daemon, Prometheus, get, until

pytestmark = [pytest.mark.real, pytest.mark.beside]

SAMPLE = re.compile(
    rb'^emissions_node_energy_joules_total\{method="integrated",source="node_query"\} (\S+)$',
    re.MULTILINE,
)


def test_daemon_integrates_the_power_that_prometheus_reports(tmp_path):
    """The query has the name of the node, so a wrong replacement finds no series."""
    with ExitStack() as ends:
        prometheus = Prometheus(tmp_path / "prometheus", {})
        ends.callback(prometheus.stop)
        query = (
            'label_replace(vector(250), "host", "node-7", "", "") * on (host) '
            'label_replace(vector(1), "host", "$node", "", "")'
        )
        sample = {
            "node_query_url": prometheus.url,
            "node_query": query,
            "node_query_seconds": 1,
        }
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"sample": sample, "expose": {"node": "node-7"}}))
        daemon = Daemon(tmp_path / "daemon", f"--config.file={config}")
        daemon.start()
        ends.callback(daemon.stop)

        def joules():
            found = SAMPLE.search(get(daemon.url + "/metrics"))
            return found and float(found[1])

        first = until(joules, what="energy of the node")
        assert first is not None
        until(lambda: (joules() or 0) > first, what="more energy of the node")
        page = get(daemon.url + "/metrics")
        assert b'emissions_collector_success{collector="node_query"} 1.0' in page
        assert b'emissions_device_energy_joules_total{device="rest",id="rest",method="' in page
