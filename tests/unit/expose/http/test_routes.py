"""Routes over TCP."""

import gzip
import threading

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.errors import ConfigError
from exporter.expose.api import read_api
from exporter.expose.exposition import MetricsPage
from exporter.expose.http.routes import check_telemetry_path
from exporter.expose.page import handlers
from exporter.model.snapshot import DaemonHealth

PEOPLES = ["/", "/?q=bert", "/runs", "/runs/bert", "/runs/bert/receipt"]
PATHS = [
    "/metrics",
    "/api/v1/runs",
    "/api/v1/runs/bert",
    "/api/v1/devices",
    "/api/v1/intensity",
    "/api/v1/snapshot",
    "/-/healthy",
    "/-/ready",
    *PEOPLES,
]
NEED_A_TICK = [path for path in PATHS if path != "/-/healthy"]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_responds(site, path):
    assert site.get(path).status == 200


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_cached_sniffed_or_framed(site, path):
    response = site.get(path)
    assert response.getheader("Cache-Control") == "no-store"
    assert response.getheader("X-Content-Type-Options") == "nosniff"
    assert "default-src 'none'" in response.getheader("Content-Security-Policy")
    assert "frame-ancestors 'none'" in response.getheader("Content-Security-Policy")


@pytest.mark.parametrize("path", PATHS)
def test_write_methods_are_rejected(site, path):
    response = site.ask("POST", path, "{}")
    assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", NEED_A_TICK)
def test_before_the_first_tick_nothing_is_shown(open_site, made, path):
    response = open_site().get(path)
    assert (response.status, response.getheader("Retry-After")) == (503, "1")


@pytest.mark.parametrize("path", ["/metricsz", "/node/power/metrics", "/run", "/.metrics", "/~a"])
def test_metrics_are_served_at_the_path_that_is_set_and_nowhere_else(open_site, made, path):
    site = open_site(telemetry_path=path)
    site.board.publish(made.gpu_node())
    assert b"emissions_device_energy_joules_total" in site.get(path).content
    assert site.get(f"{path}?name[]=emissions_pue_ratio").status == 200
    refused = site.get("/metrics")
    assert refused.status == 404
    assert f"known paths are /, /runs, {path}, /api".encode() in refused.content


@pytest.mark.parametrize(
    ("page", "root"),
    [("/", "./"), ("/runs", "./"), ("/runs/bert", "../"), ("/runs/none", "../")],
)
def test_every_page_links_to_the_metrics(open_site, made, page, root):
    site = open_site(telemetry_path="/node/metrics")
    site.board.publish(made.gpu_node())
    html = site.get(page).content.decode()
    assert f'<a href="{root}node/metrics">/node/metrics</a>' in html
    assert '"./metrics"' not in html


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "/",
            "//",
            "metrics",
            "/metrics/",
            "/a//b",
            "/a b",
            "/a?b",
            "/a#b",
            "/%41",
            "/\u00e4",
        ),
        *("/runs", "/runs/x", "/api", "/api/v1/runs", "/static/x", "/-/healthy", "/a/../b", "/.."),
    ],
)
def test_reserved_and_invalid_telemetry_paths_are_rejected(path):
    with pytest.raises(
        ConfigError, match=r"^--web\.telemetry-path=.*choose another, such as /metrics"
    ):
        check_telemetry_path(path)


def test_every_served_path_is_reserved(site):
    others = [path for path in site.web._routes._routes if path not in ("/", "/metrics")]
    assert len(others) == 7
    for path in others:
        with pytest.raises(ConfigError, match="this path is reserved"):
            check_telemetry_path(path)


def test_an_invalid_name_is_an_error_page(site):
    forms = {"/runs/%ff": "text/html", "/api/v1/runs/%ff": "application/json"}
    for path, form in forms.items():
        response = site.get(path)
        assert response.status == 400
        assert response.getheader("Content-Type").startswith(form)


@pytest.mark.parametrize(
    "path", ["/nothing", "/metrics/", "/-/reload", "//", "/v1/runs", "/%2e", "/static/x", "/runs/"]
)
def test_everything_else_is_not_found(site, path):
    assert site.get(path).status == 404


def test_the_text_format_is_the_default(site):
    response = site.get("/metrics")
    assert response.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    assert response.content == site.board.current.metrics_page.text()
    assert list(parse_text(response.content.decode()))


def test_openmetrics_is_served_on_request(site):
    response = site.get("/metrics", accept="application/openmetrics-text;version=1.0.0")
    assert response.getheader("Content-Type").startswith("application/openmetrics-text; version=1")
    assert list(text_string_to_metric_families(response.content.decode()))


def test_metrics_are_compressed_if_the_client_accepts_it(site):
    response = site.get("/metrics", accept_encoding="gzip")
    assert response.getheader("Content-Encoding") == "gzip"
    assert gzip.decompress(response.content) == site.board.current.metrics_page.text()


@pytest.mark.parametrize(
    ("path", "owner", "maker"),
    [
        ("/metrics", MetricsPage, "gzipped"),
        ("/api/v1/snapshot", read_api, "snapshot_to_json"),
        ("/", handlers, "node_page"),
    ],
)
def test_expensive_responses_are_rendered_once_per_tick_in_another_thread(
    site, made, monkeypatch, path, owner, maker
):
    original, makers = getattr(owner, maker), []

    def counted(*args, **kwargs):
        makers.append(threading.current_thread())
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, maker, counted)
    bodies = {site.get(path, accept_encoding="gzip").content for _ in range(3)}
    assert len(bodies) == len(makers) == 1
    assert makers[0] is not site.thread
    site.board.publish(made.snapshot())
    assert site.get(path, accept_encoding="gzip").content not in bodies


def test_metrics_have_a_vary_header(site):
    assert site.get("/metrics").getheader("Vary") == "Accept, Accept-Encoding"


def test_families_can_be_selected_by_name(site):
    response = site.get("/metrics?name[]=emissions_pue_ratio&name%5B%5D=emissions_device_up")
    names = [family.name for family in parse_text(response.content.decode())]
    assert names == ["emissions_device_up", "emissions_pue_ratio"]


def test_a_daemon_that_ticks_is_healthy(site):
    assert site.get("/-/healthy").status == 200


def test_a_daemon_without_ticks_is_unhealthy_and_reports_for_how_long(site):
    site.clock.now_ns = site.board.current.snapshot.at_ns + 60_100_000_000
    response = site.get("/-/healthy")
    assert response.status == 503
    assert b"no tick for 60.1 s (limit 60 s)" in response.content


def test_a_daemon_short_of_cpu_time_is_healthy(site):
    site.clock.now_ns = site.board.current.snapshot.at_ns + 59_000_000_000
    assert site.get("/-/healthy").status == 200


def test_a_daemon_of_long_intervals_may_miss_two_of_them(site):
    snapshot = site.board.current.snapshot
    site.board.publish(snapshot._replace(interval_seconds=30.0))
    for after_seconds, status in ((89, 200), (91, 503)):
        site.clock.now_ns = snapshot.at_ns + after_seconds * 1_000_000_000
        assert site.get("/-/healthy").status == status


def test_a_daemon_with_an_unrecoverable_error_is_unhealthy(site):
    snapshot = site.board.current.snapshot
    site.board.publish(snapshot._replace(health=DaemonHealth(sick="start the container anew")))
    response = site.get("/-/healthy")
    assert response.status == 503
    assert b"start the container anew" in response.content
    site.board.publish(snapshot)
    assert site.get("/-/healthy").status == 200


def test_a_daemon_that_has_just_started_is_healthy(open_site):
    assert open_site().get("/-/healthy").status == 200


def test_a_daemon_without_a_first_tick_becomes_unhealthy(open_site):
    site = open_site()
    site.clock.now_ns += 61_000_000_000
    assert site.get("/-/healthy").status == 503
