"""The made-up answers have the fields of documented or recorded ones, and no others.

Where the fields are from stands beside them; the decoders had no part in that.
"""

import json
from types import SimpleNamespace

import pytest

from exporter.expose.api.documents import intensity_to_json
from tests.grid import shapes
from tests.unit.convert.sources.conftest import NOW
from tests.unit.expose.conftest import live_grid, snapshot

PAIRS = [(NOW - 3600, 300), (NOW, 310)]
TOKEN = {"authorization": "Bearer a-token-of-half-an-hour"}

MAPS = (
    "zone carbonIntensity datetime updatedAt createdAt emissionFactorType flowTraced isEstimated "
    "estimationMethod"
)
"""As in `tests/grid/recorded.py`, recorded 2026-08-22 of version 4."""
WATTTIME = "data_point_period_seconds region warnings signal_type model units"
GENERATED = "generated_at_period_seconds generated_at"
"""WattTime/watttime-python-client, "Forecast" and "Data" of its guide from version 2 to 3; the same
as the examples of docs.watttime.org."""

FIELDS = [
    (shapes.electricity_maps, "/v4/carbon-intensity/latest", [], f"{MAPS} temporalGranularity"),
    (
        shapes.electricity_maps,
        "/v4/carbon-intensity/history",
        [],
        "zone history temporalGranularity",
    ),
    (shapes.electricity_maps, "/v4/carbon-intensity/history", ["history", 0], MAPS),
    (shapes.watttime, "/v3/historical", [], "data meta"),
    (shapes.watttime, "/v3/historical", ["data", 0], "point_time value"),
    (shapes.watttime, "/v3/historical", ["meta"], WATTTIME),
    (shapes.watttime, "/v3/forecast", ["meta"], f"{WATTTIME} {GENERATED}"),
    # carbon-intensity/api-definitions at e3f25a1: docs/index.html and docs/index-regional.html.
    # There the region stands in a list; clients have met it alone as well.
    (shapes.uk, "/intensity/x/fw48h", ["data", 0], "from to intensity"),
    (shapes.uk, "/intensity/x/fw48h", ["data", 0, "intensity"], "forecast actual index"),
    (shapes.uk, "/regional/intensity/x/fw48h", ["data"], "dnoregion shortname data"),
    (
        shapes.uk,
        "/regional/intensity/x/fw48h",
        ["data", "data", 0],
        "from to intensity generationmix",
    ),
    (
        shapes.uk,
        "/regional/intensity/x/fw48h",
        ["data", "data", 0, "intensity"],
        "forecast index",
    ),
    # The Explore API 2.1 of Opendatasoft; columns by the query of mahendrapaipuri/ceems at 14be007.
    (shapes.rte, "/", [], "total_count results"),
    (shapes.rte, "/", ["results", 0], "taux_co2 date_heure"),
    # As the tests of several clients have it; the service's own description was not to be had.
    (shapes.energy_charts, "/co2eq", [], "unix_seconds co2eq co2eq_forecast deprecated"),
    # Columns of the dataset CO2Emis; the keys around them are not documented.
    (
        shapes.energinet,
        "/dataset/CO2Emis",
        ["records", 0],
        "Minutes5UTC Minutes5DK PriceArea CO2Emission",
    ),
    # prometheus.io/docs/prometheus/latest/querying/api, "Range queries".
    (shapes.prometheus, "/api/v1/query_range", [], "status data"),
    (shapes.prometheus, "/api/v1/query_range", ["data"], "resultType result"),
    (shapes.prometheus, "/api/v1/query_range", ["data", "result", 0], "metric values"),
]


def answered(serve, path):
    asked = SimpleNamespace(path=path, headers=TOKEN, query={"query": "up"}, method="GET")
    status, _, body = serve(asked)
    assert status == 200
    return json.loads(body)


@pytest.mark.parametrize(("made", "path", "where", "fields"), FIELDS)
def test_fields_are_those_of_the_authority(made, path, where, fields):
    found = answered(made(PAIRS, ahead=PAIRS) if made is shapes.watttime else made(PAIRS), path)
    for step in where:
        found = found[step]
    assert set(found) == set(fields.split())


def test_fields_of_another_exporter_are_those_that_this_one_sends():
    known = intensity_to_json(snapshot(grid=live_grid()))
    found = answered(shapes.exporter(PAIRS, ahead=PAIRS), "/api/v1/intensity")
    assert set(found) == set(known)
    assert set(found["factor"]) == set(known["factor"])
    assert set(found["recent"][0]) == set(known["recent"][0])
    assert set(found["forecast"][0]) == set(known["forecast"][0])
