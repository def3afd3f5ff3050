"""Power of the node by a query of Prometheus; tests/real/test_node_query.py has a real one."""

import json
import threading

import pytest

from exporter.errors import ConfigError, SourceError, Unavailable
from exporter.sample.node_meter import NODE
from exporter.sample.sources.node_query import NodeQuery, NodeQueryCollector, parse_watts
from exporter.worker import wait_until
from tests.grid.server import GridServer, document
from tests.unit.sample.conftest import BOOT_ID

TIMEOUT_SECONDS = 30.0
QUERY = 'sum(outlet_watts{host="$node"})'


def vector(*values):
    rows = [{"metric": {"outlet": str(n)}, "value": [1.7e9, v]} for n, v in enumerate(values)]
    return {"status": "success", "data": {"resultType": "vector", "result": rows}}


class Server(GridServer):
    """Answers with `answer`; counts what it was asked."""

    def __init__(self, answer):
        super().__init__(lambda _: self.answer)
        self.answer = answer


@pytest.fixture
def served(clock, tmp_path):
    """Open a collector for a server with an answer; both are ended afterwards."""
    opened = []

    def build(answer=None, *, token=""):
        server = Server(document(vector("250.5")) if answer is None else answer)
        path = ""
        if token:
            path = str(tmp_path / "token")
            with open(path, "w", encoding="ascii") as file:
                file.write(token)
        settings = NodeQuery(server.url + "/prom/", QUERY, path, 0.01)
        collector = NodeQueryCollector(settings, "node-7", clock, BOOT_ID)
        opened.append((server, collector))
        return server, collector

    yield build
    for server, collector in opened:
        collector.release()
        server.stop()


def reading(collector):
    """Return the first reading that arrives."""
    found = []

    def has_arrived():
        found.extend(collector.read().readings)
        return bool(found)

    assert wait_until(has_arrived, TIMEOUT_SECONDS)
    return found[0]


def test_query_has_the_name_of_the_node(served, clock):
    server, collector = served()
    found = reading(collector)
    assert (found.device, found.power_watts, found.at_ns) == (NODE, 250.5, clock.boottime_ns())
    asked = server.asked[0]
    assert asked.path == "/prom/api/v1/query"
    assert asked.query == {"query": 'sum(outlet_watts{host="node-7"})'}
    assert "authorization" not in asked.headers


def test_token_is_sent_and_its_file_is_read_again_each_time(served, tmp_path):
    server, collector = served(token="first\n")
    reading(collector)
    assert server.asked[0].headers["authorization"] == "Bearer first"
    (tmp_path / "token").write_text("second\n")
    asked = server.asked
    assert wait_until(
        lambda: asked[-1].headers["authorization"] == "Bearer second", TIMEOUT_SECONDS
    )
    (tmp_path / "token").unlink()
    assert wait_until(lambda: "token file" in collector.read().error, TIMEOUT_SECONDS)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (document(vector()), "0 series"),
        (document(vector("1", "2")), "2 series"),
        (document(vector("NaN")), "returned NaN"),
        (document(vector("+Inf")), "returned +Inf"),
        (document(vector("0")), "returned 0"),
        (document(vector("-3")), "returned -3"),
        (document({"status": "error", "error": "parse error"}, 400), "status 400 parse error"),
        (document({}, 503), "status 503"),
        ((302, {"Location": "http://127.0.0.1:1/"}, b""), "status 302"),
        ((200, {}, b"<html>"), "not that of an instant query"),
        (document([1]), "not that of an instant query"),
        (document({"data": {"resultType": "matrix", "result": []}}), "returned a matrix"),
        ((200, {"Content-Length": "100"}, b"{"), ""),
    ],
)
def test_answer_without_a_power_is_a_reason_and_never_zero(served, answer, reason):
    _, collector = served(answer)
    found = reading(collector)
    assert found.power_watts is None
    assert reason in found.why
    assert found.why


def test_server_that_is_down_is_a_failure_until_it_answers(served):
    server, collector = served()
    reading(collector)
    server.answer = document({}, 500)
    assert wait_until(lambda: "status 500" in collector.read().error, TIMEOUT_SECONDS)
    server.answer = document(vector("260"))
    assert wait_until(lambda: not collector.read().error, TIMEOUT_SECONDS)


def test_nobody_listens(clock):
    settings = NodeQuery("http://127.0.0.1:9", QUERY, "", 60)
    collector = NodeQueryCollector(settings, "node-7", clock, BOOT_ID)
    assert "refused" in reading(collector).why
    collector.release()


def test_tick_does_not_wait_for_the_server(clock):
    answer = threading.Event()

    def hang(_):
        answer.wait(TIMEOUT_SECONDS)
        return document(vector("1"))

    server = GridServer(hang)
    collector = NodeQueryCollector(NodeQuery(server.url, QUERY), "node-7", clock, BOOT_ID)
    observation = collector.read()
    assert (observation.readings, observation.error) == ((), "")
    answer.set()
    assert reading(collector).power_watts == 1.0
    collector.release()
    server.stop()


@pytest.mark.parametrize(
    "url", ["", "prometheus:9090", "ftp://prometheus", "http://", "http://u:p@host", "http://h:x"]
)
def test_invalid_url_is_an_error_of_the_setting(clock, url):
    with pytest.raises(ConfigError, match=r"sample\.node_query_url"):
        NodeQueryCollector(NodeQuery(url, QUERY), "node-7", clock, BOOT_ID)


def test_url_without_a_query_is_an_error_of_the_setting(clock):
    with pytest.raises(ConfigError, match=r"sample\.node_query: expected"):
        NodeQueryCollector(NodeQuery("http://host", ""), "node-7", clock, BOOT_ID)


def test_without_settings_there_is_no_meter(clock):
    with pytest.raises(Unavailable, match="not set"):
        NodeQueryCollector(NodeQuery(), "node-7", clock, BOOT_ID)


def test_scalar_is_a_power():
    assert parse_watts({"data": {"resultType": "scalar", "result": [1, "42.5"]}}) == 42.5


@pytest.mark.parametrize("text", ["{}", "null", '{"data": {"resultType": "scalar", "result": 1}}'])
def test_other_document_is_an_error(text):
    with pytest.raises(SourceError):
        parse_watts(json.loads(text))
