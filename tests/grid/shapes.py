"""Servers of every source, with the values that a test gives; their answers are made up here.

`test_shapes.py` of the sources holds their fields against documented or recorded answers, and
`recorded.py` has answers with the values of a real server, where somebody has published one. What
nobody has seen is listed in tests/README.md.

Each function makes the `serve` of a healthy server. Values are pairs of unix seconds and the number
as it is sent, earliest first; `ahead` is the forecast, None where the server has none to give. What
a number stands in is JSON, so it may be null, a text or anything else that a test wants.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from tests.grid.server import Answer, Asked, document

Pairs = Sequence[tuple[float, Any]]
Serve = Callable[[Asked], Answer]

REFUSED = document({"error": "Request unauthorized for zoneKey=IT"}, 403)
UNKNOWN = document({"message": "no such path"}, 404)


def moment(seconds: float, form: str = "%Y-%m-%dT%H:%M:%S.000Z", hours: float = 0) -> str:
    """A time as text, in UTC or as many hours before it."""
    return datetime.fromtimestamp(seconds, timezone(timedelta(hours=hours))).strftime(form)


def electricity_maps(
    values: Pairs,
    ahead: Pairs | None = None,
    zone: str = "DE",
    basis: str = "lifecycle",
    estimated: bool = False,
    granularity: str = "hourly",
) -> Serve:
    """Version 4; version 3 has neither `flowTraced` nor `temporalGranularity` everywhere."""
    step = {"temporalGranularity": granularity}

    def row(pair: tuple[float, Any]) -> dict[str, Any]:
        at, number = pair
        return {
            "zone": zone,
            "carbonIntensity": number,
            "datetime": moment(at),
            "updatedAt": moment(at + 60),
            "createdAt": moment(at - 3 * 86_400),
            "emissionFactorType": basis,
            "flowTraced": True,
            "isEstimated": estimated,
            "estimationMethod": "FORECASTS_HIERARCHY" if estimated else None,
        }

    def serve(asked: Asked) -> Answer:
        match asked.path.rpartition("/")[2]:
            case "latest":
                return document({**row(values[-1]), **step})
            case "history":
                return document({"zone": zone, "history": [row(pair) for pair in values], **step})
            case "forecast" if ahead is not None:
                rows = [{"carbonIntensity": number, "datetime": moment(at)} for at, number in ahead]
                said = {"updatedAt": moment(values[-1][0] if values else 0.0), **step}
                return document({"zone": zone, "forecast": rows, **said})
        return REFUSED if asked.path.endswith("forecast") else UNKNOWN

    return serve


def watttime(
    values: Pairs | None,
    ahead: Pairs | None = None,
    region: str = "CAISO_NORTH",
    token: str = "a-token-of-half-an-hour",
    **meta: Any,
) -> Serve:
    """Numbers in pounds per megawatt hour; `meta` replaces parts of `meta`."""
    example = {"type": "EXAMPLE_WARNING", "message": "This is just an example"}
    generated = {"generated_at_period_seconds": 300, "generated_at": "2022-07-15T00:00:00+00:00"}

    def rows(pairs: Pairs, **more: Any) -> Answer:
        said = {
            "data_point_period_seconds": 300,
            "region": region,
            "warnings": [example],
            "signal_type": "co2_moer",
            "model": {"date": "2023-03-01"},
            "units": "lbs_co2_per_mwh",
            **more,
            **meta,
        }
        data = [
            {"point_time": moment(at, "%Y-%m-%dT%H:%M:%S+00:00"), "value": number}
            for at, number in pairs
        ]
        return document({"data": data, "meta": said})

    def serve(asked: Asked) -> Answer:
        if asked.path == "/login":
            return document({"token": token})
        if asked.headers.get("authorization") != f"Bearer {token}":
            return document({"error": "Invalid scope"}, 401)
        if asked.path == "/v3/forecast" and ahead is not None:
            return rows(ahead, **generated)
        return rows(values) if asked.path == "/v3/historical" and values is not None else REFUSED

    return serve


def uk(values: Pairs, ahead: Pairs = (), **region: Any) -> Serve:
    """`region` is what a regional answer says of itself: `regionid`, `postcode`."""

    def row(at: float, **intensity: Any) -> dict[str, Any]:
        form = "%Y-%m-%dT%H:%MZ"
        intensity["index"] = "moderate"
        return {"from": moment(at, form), "to": moment(at + 1800, form), "intensity": intensity}

    def serve(asked: Asked) -> Answer:
        if asked.path.startswith("/regional"):
            mix = [{"fuel": "gas", "perc": 43.6}]
            halves = [
                {**row(at, forecast=number), "generationmix": mix}
                for at, number in (*values, *ahead)
            ]
            named = {"dnoregion": "WPD East Midlands", "shortname": "East Midlands", **region}
            return document({"data": {**named, "data": halves}})
        halves = [row(at, forecast=number, actual=number) for at, number in values]
        halves += [row(at, forecast=number, actual=None) for at, number in ahead]
        return document({"data": halves})

    return serve


def rte(values: Pairs, hours: Callable[[float], float] = lambda _: 0) -> Serve:
    """`hours` is how far local time is ahead of UTC at a time."""

    def spelled(at: float) -> str:
        return datetime.fromtimestamp(at, timezone(timedelta(hours=hours(at)))).isoformat()

    def serve(_: Asked) -> Answer:
        rows = [{"taux_co2": number, "date_heure": spelled(at)} for at, number in reversed(values)]
        return document({"total_count": len(rows), "results": rows})

    return serve


def energy_charts(values: Pairs, ahead: Pairs = ()) -> Serve:
    """One list of times, and one of each kind of number."""

    def numbers(pairs: Iterable[tuple[float, Any]]) -> list[Any]:
        return [number for _, number in pairs]

    def serve(_: Asked) -> Answer:
        return document(
            {
                "unix_seconds": [at for at, _ in (*values, *ahead)],
                "co2eq": numbers(values) + [None] * len(ahead),
                "co2eq_forecast": [None] * len(values) + numbers(ahead),
                "deprecated": False,
            }
        )

    return serve


def energinet(values: Pairs, ahead: Pairs | None = (), area: str = "DK1") -> Serve:
    """Newest first; times without a zone, in UTC and in Denmark."""

    def serve(asked: Asked) -> Answer:
        dataset = asked.path.rpartition("/")[2]
        pairs = ahead if dataset == "CO2EmisProg" else values
        if pairs is None:
            return document({"statusCode": 429, "message": "Rate limit is exceeded."}, 429)
        form = "%Y-%m-%dT%H:%M:%S"
        records = [
            {
                "Minutes5UTC": moment(at, form),
                "Minutes5DK": moment(at, form, hours=1),
                "PriceArea": area,
                "CO2Emission": number,
            }
            for at, number in reversed(pairs)
        ]
        return document({"total": 2000, "dataset": dataset, "records": records})

    return serve


def exporter(values: Pairs, ahead: Pairs = (), step_seconds: float = 3600, **factor: Any) -> Serve:
    """The last value is in force; `factor` replaces parts of it."""

    def rows(pairs: Pairs) -> list[dict[str, Any]]:
        return [
            {"start": at, "end": at + step_seconds, "grams_per_kwh": number, "estimated": False}
            for at, number in pairs
        ]

    def serve(_: Asked) -> Answer:
        at, number = values[-1] if values else (0.0, None)
        in_force = {
            "zone": "DE",
            "source": "Electricity Maps",
            "grams_per_kwh": number,
            "pue": 1.2,
            "valid_from": at,
            "valid_until": at + 3 * step_seconds,
            "as_of": at,
            "signal": "average",
            "basis": "lifecycle",
            "accounting": "location",
            "estimated": False,
            "step": 0,
            **factor,
        }
        return document(
            {
                "at": at,
                "factor": in_force if values else None,
                "age_seconds": 0.0 if values else None,
                "why": "" if values else "electricity_maps has no value",
                "recent": rows(values),
                "forecast": rows(ahead),
                "second": None,
                "sources": [],
            }
        )

    return serve


def prometheus(*series: Pairs) -> Serve:
    """A matrix; numbers are sent as text."""

    def spelled(number: Any) -> Any:
        if number is None:
            return "NaN"
        return number if isinstance(number, bool | str) else f"{number}"

    def serve(asked: Asked) -> Answer:
        if not asked.query.get("query"):
            said = {"status": "error", "errorType": "bad_data", "error": "no query"}
            return document(said, 400)
        result = [
            {"metric": {"zone": "DE"}, "values": [[at, spelled(number)] for at, number in pairs]}
            for pairs in series
            if pairs
        ]
        data = {"resultType": "matrix", "result": result}
        return document({"status": "success", "data": data})

    return serve


def metadata(provider: str, region: str) -> Serve:
    """The service at 169.254.169.254; each cloud answers to its own header alone."""

    def serve(asked: Asked) -> Answer:
        token = "AQAEAL-an-imds-token=="
        headers = asked.headers
        match provider, asked.method, asked.path:
            case "gcp", "GET", "/computeMetadata/v1/instance/zone":
                if headers.get("metadata-flavor") == "Google":
                    return 200, {}, f"projects/123456/zones/{region}-b".encode()
            case "azure", "GET", "/metadata/instance/compute/location":
                if headers.get("metadata") == "true":
                    return 200, {}, region.encode()
            case "aws", "PUT", "/latest/api/token":
                if "x-aws-ec2-metadata-token-ttl-seconds" in headers:
                    return 200, {}, token.encode()
            case "aws", "GET", "/latest/meta-data/placement/region":
                given = headers.get("x-aws-ec2-metadata-token")
                return (200, {}, region.encode()) if given == token else (401, {}, b"")
        return 404, {}, json.dumps({"error": "not found"}).encode()

    return serve
