"""Intensity from a series in Prometheus."""

import pytest

from exporter.convert.sources.prometheus import TOKEN_VARIABLE, PrometheusSource
from exporter.errors import ConfigError, FetchError
from exporter.model.intensity import Accounting, Basis, Signal
from tests.grid.server import document
from tests.unit.convert.sources.conftest import NOW, TOKEN


@pytest.fixture
def prometheus(asker):
    def make(**options):
        made = asker("prometheus", **options)
        made.serve([(NOW - 60, 100), (NOW, 200)])
        return made

    return make


def failure(asker):
    with pytest.raises(FetchError) as raised:
        asker.request()
    return raised.value


@pytest.mark.parametrize(
    ("missing", "start", "step"),
    [(0, NOW, "60"), (90, NOW - 60, "60"), (86_400, NOW - 86_400, "60"), (172_800, None, "120")],
)
def test_the_range_is_requested_in_whole_steps(prometheus, missing, start, step):
    asker = prometheus()
    asker.request(since=NOW - missing)
    query = asker.server.asked[0].query
    assert query["step"] == step
    assert float(query["end"]) == NOW
    assert float(query["start"]) == (NOW - missing if start is None else start)
    assert query["query"] == "g"


def test_a_token_is_a_bearer_token(prometheus):
    asker = prometheus()
    asker.request()
    assert asker.server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_without_a_token_none_is_sent(prometheus, monkeypatch):
    asker = prometheus()
    monkeypatch.delenv(TOKEN_VARIABLE)
    asker.request()
    assert "authorization" not in asker.server.asked[0].headers
    assert asker.source.check() == ()


def test_a_token_that_cannot_be_one_is_rejected_and_not_left_out(prometheus, monkeypatch):
    asker = prometheus()
    monkeypatch.setenv(TOKEN_VARIABLE, "two\nlines")
    for act in (asker.request, asker.source.check):
        with pytest.raises(ConfigError, match="one line of printable ASCII"):
            act()
    assert asker.server.asked == []


def test_a_netrc_of_the_user_does_not_replace_the_token(prometheus, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    asker = prometheus()
    asker.request()
    assert asker.server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_query_with_several_series_is_rejected(prometheus):
    asker = prometheus()
    asker.serve([(NOW, 1)], [(NOW, 2)])
    assert "2 series" in str(failure(asker))


@pytest.mark.parametrize("number", ["NaN", "+Inf", "-Inf"])
def test_a_text_for_no_number_is_no_value(prometheus, number):
    asker = prometheus()
    asker.serve([(NOW, number)])
    assert failure(asker).outcome == "no_value"


def test_an_error_in_the_query_is_reported(prometheus):
    asker = prometheus()
    said = {"status": "error", "errorType": "bad_data", "error": "parse error: unclosed"}
    asker.server.serve = lambda _: document(said, 400)
    assert "parse error: unclosed" in str(failure(asker))


@pytest.mark.parametrize("values", [None, 1, "text", {}, [[1]], [[1, 2, 3]], ["ab"], [None]])
def test_samples_of_another_form_are_a_bad_answer(prometheus, values):
    asker = prometheus()
    found = {"status": "success", "data": {"result": [{"values": values}]}}
    asker.server.serve = lambda _: document(found)
    assert failure(asker).outcome == "bad_answer"


@pytest.mark.parametrize(
    ("options", "said"),
    [({"query": "g"}, "url: expected"), ({"url": "http://prometheus:9090"}, "query: expected")],
)
def test_address_and_query_are_needed(options, said):
    with pytest.raises(ConfigError, match=said):
        PrometheusSource(**options).check()


def test_it_counts_what_the_settings_say():
    kind = PrometheusSource(signal="marginal", basis="direct", accounting="market").kind
    assert kind == (Signal.MARGINAL, Basis.DIRECT, Accounting.MARKET)
    assert PrometheusSource(source="our meters").publisher == "our meters"


def test_a_series_in_kilograms_is_rejected_with_what_to_write(prometheus):
    asker = prometheus()
    asker.serve([(NOW - 60, 0), (NOW, 0.473)])
    failed = failure(asker)
    assert failed.outcome == "bad_answer"
    assert "each value is below 1 g/kWh: 0.473 g/kWh is less than any grid emits" in str(failed)
    assert "write 473" in str(failed)


@pytest.mark.parametrize(
    "options", [{"basis": "direct"}, {"accounting": "market"}, {"signal": "marginal"}]
)
def test_direct_and_marginal_emissions_and_contracts_may_be_that_small(prometheus, options):
    asker = prometheus(**options)
    asker.serve([(NOW, 0.473)])
    assert asker.numbers() == [0.473]


@pytest.mark.parametrize("numbers", [[0.2, 40], [0, 0], [1.5]])
def test_a_series_with_one_value_of_a_grid_is_in_grams(prometheus, numbers):
    asker = prometheus()
    asker.serve([(NOW - 60 * back, number) for back, number in enumerate(reversed(numbers))][::-1])
    assert asker.numbers() == numbers
