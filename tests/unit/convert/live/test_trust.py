"""HTTPS servers with a private CA, on every Python."""

import ssl

import pytest

from exporter.convert.live.http import HttpSession, LenientAdapter
from exporter.errors import FetchError
from exporter.report.prometheus_queries import PrometheusApi
from tests.certificates import INCOMPLETE, Authority
from tests.grid.server import GridServer, document

VECTOR = {"resultType": "vector", "result": [{"metric": {"a": "b"}, "value": [1.0, "2.5"]}]}


@pytest.fixture(params=INCOMPLETE.values(), ids=list(INCOMPLETE))
def server(request, tmp_path, monkeypatch):
    """Speaks with a certificate of a CA that lacks some extension, and that is trusted here."""
    authority = Authority(tmp_path, extensions=request.param)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.path)
    server = GridServer(
        lambda _: document({"status": "success", "data": VECTOR}),
        authority.sign("server", "DNS:localhost"),
    )
    yield server
    server.stop()


def test_a_source_of_intensity_is_trusted(server):
    assert HttpSession(0.0).get(server.url)["status"] == "success"


def test_a_prometheus_is_trusted(server):
    assert [sample.value for sample in PrometheusApi(server.url).query("up")] == [2.5]


def test_a_server_of_another_authority_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", Authority(tmp_path / "trusted").path)
    other = Authority(tmp_path / "other").sign("server", "DNS:localhost")
    server = GridServer(lambda _: document({}), other)
    try:
        with pytest.raises(FetchError, match="certificate is not trusted"):
            HttpSession(0.0).get(server.url)
    finally:
        server.stop()


def test_through_a_proxy_the_same_is_checked_and_no_less():
    adapter = LenientAdapter()
    proxied = adapter.proxy_manager_for("http://127.0.0.1:1")
    for manager in (adapter.poolmanager, proxied):
        context = manager.connection_pool_kw["ssl_context"]
        assert not context.verify_flags & ssl.VERIFY_X509_STRICT
        assert context.verify_mode is ssl.CERT_REQUIRED
