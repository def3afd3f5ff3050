"""What the daemon imports before its first page, and what only when it is needed."""

import subprocess
import sys

import pytest

import exporter.client

LATE = {
    "exporter.attribute.sources.kube.pod_runs",
    "exporter.attribute.sources.replay",
    "exporter.client.tracker",
    "exporter.expose.web_config.tls",
    "exporter.sample.sources.replay",
    "http.client",
    "requests",
    "yaml",
}


def test_the_daemon_imports_only_what_every_node_needs():
    program = (
        f"import exporter.cli.serve, exporter.daemon, sys; print(*{LATE!r} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\n"


@pytest.mark.parametrize("name", exporter.client.__all__)
def test_every_public_name_of_the_client_can_be_imported(name):
    assert getattr(exporter.client, name).__name__ == name


def test_the_client_has_no_other_names():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        exporter.client.nothing  # noqa: B018  its evaluation is what fails
