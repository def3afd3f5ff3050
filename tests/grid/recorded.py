"""Answers of real servers, as others have recorded or documented them; shortened where it is said.

Nothing here was asked for by this project's own tests: no account stands behind them.
"""

from typing import Any

Document = dict[str, Any]

ELECTRICITY_MAPS_V4: dict[str, Document] = {
    "latest": {
        "zone": "DK-DK2",
        "carbonIntensity": 75,
        "datetime": "2026-08-22T17:00:00.000Z",
        "updatedAt": "2026-08-22T17:24:08.708Z",
        "createdAt": "2026-08-21T22:35:11.365Z",
        "emissionFactorType": "lifecycle",
        "flowTraced": True,
        "isEstimated": True,
        "estimationMethod": "FORECASTS_HIERARCHY",
        "temporalGranularity": "hourly",
    },
    "history": {
        "zone": "DK-DK2",
        "history": [
            {
                "zone": "DK-DK2",
                "carbonIntensity": 72,
                "datetime": "2026-08-22T15:00:00.000Z",
                "updatedAt": "2026-08-22T17:24:08.708Z",
                "createdAt": "2026-08-21T22:35:11.365Z",
                "emissionFactorType": "lifecycle",
                "flowTraced": True,
                "isEstimated": False,
                "estimationMethod": None,
            },
            {
                "zone": "DK-DK2",
                "carbonIntensity": 70,
                "datetime": "2026-08-22T16:00:00.000Z",
                "updatedAt": "2026-08-22T17:24:02.702Z",
                "createdAt": "2026-08-21T22:35:09.844Z",
                "emissionFactorType": "lifecycle",
                "flowTraced": True,
                "isEstimated": True,
                "estimationMethod": "FORECASTS_HIERARCHY",
            },
            {
                "zone": "DK-DK2",
                "carbonIntensity": 75,
                "datetime": "2026-08-22T17:00:00.000Z",
                "updatedAt": "2026-08-22T17:24:08.708Z",
                "createdAt": "2026-08-21T22:35:11.365Z",
                "emissionFactorType": "lifecycle",
                "flowTraced": True,
                "isEstimated": True,
                "estimationMethod": "FORECASTS_HIERARCHY",
            },
        ],
        "temporalGranularity": "hourly",
    },
    "forecast": {
        "zone": "DK-DK2",
        "forecast": [
            {"carbonIntensity": 77, "datetime": "2026-08-22T17:00:00.000Z"},
            {"carbonIntensity": 76, "datetime": "2026-08-22T18:00:00.000Z"},
            {"carbonIntensity": 73, "datetime": "2026-08-22T19:00:00.000Z"},
        ],
        "updatedAt": "2026-08-22T17:34:24.392Z",
        "temporalGranularity": "hourly",
    },
}
"""Recorded 2026-08-22 17:34 UTC with a free token: maurobdata/electricity-grid-lab 20eff1d,
`fixtures/carbon-intensity__*.json`; of 24 rows the last three, of 25 the first three."""

ELECTRICITY_MAPS_V3: dict[str, Document] = {
    "latest": {
        "zone": "US-CAR-DUK",
        "carbonIntensity": 216,
        "datetime": "2024-03-06T19:00:00.000Z",
        "updatedAt": "2024-03-06T18:48:27.926Z",
        "createdAt": "2024-03-03T19:47:16.265Z",
        "emissionFactorType": "lifecycle",
        "isEstimated": True,
        "estimationMethod": "TIME_SLICER_AVERAGE",
    },
    "history": {
        "zone": "DE",
        "history": [
            {
                "zone": "DE",
                "carbonIntensity": 633,
                "datetime": "2024-03-06T17:00:00.000Z",
                "updatedAt": "2024-03-06T18:48:07.043Z",
                "createdAt": "2024-03-03T17:50:57.878Z",
                "emissionFactorType": "lifecycle",
                "isEstimated": False,
                "estimationMethod": None,
            },
            {
                "zone": "DE",
                "carbonIntensity": 663,
                "datetime": "2024-03-06T18:00:00.000Z",
                "updatedAt": "2024-03-06T18:48:07.043Z",
                "createdAt": "2024-03-03T18:47:52.886Z",
                "emissionFactorType": "lifecycle",
                "isEstimated": True,
                "estimationMethod": "TIME_SLICER_AVERAGE",
            },
            {
                "zone": "DE",
                "carbonIntensity": 689,
                "datetime": "2024-03-06T19:00:00.000Z",
                "updatedAt": "2024-03-06T18:48:27.926Z",
                "createdAt": "2024-03-03T19:46:59.534Z",
                "emissionFactorType": "lifecycle",
                "isEstimated": True,
                "estimationMethod": "TIME_SLICER_AVERAGE",
            },
        ],
    },
}
"""Recorded 2024-03-06: jpbede/aioelectricitymaps at 935bca9 and 5c97065 (MIT),
`tests/fixtures/carbon_intensity_history.json`, of 24 rows the last three, and
`latest_carbon_intensity.json`."""

UK_NATIONAL: Document = {
    "data": [
        {
            "from": "2020-05-24T20:30Z",
            "to": "2020-05-24T21:00Z",
            "intensity": {"forecast": 146, "actual": None, "index": "low"},
        },
        {
            "from": "2020-05-24T21:00Z",
            "to": "2020-05-24T21:30Z",
            "intensity": {"forecast": 148, "actual": None, "index": "low"},
        },
        {
            "from": "2020-05-24T21:30Z",
            "to": "2020-05-24T22:00Z",
            "intensity": {"forecast": 148, "actual": None, "index": "low"},
        },
        {
            "from": "2020-05-24T22:00Z",
            "to": "2020-05-24T22:30Z",
            "intensity": {"forecast": 144, "actual": None, "index": "low"},
        },
    ]
}
"""Recorded 2020-05-24: emoncms/demandshaper, `docs/forecasts/carbonintensity.md`; four rows."""

UK_DOCUMENTED: Document = {
    "data": [
        {
            "from": "2018-01-20T12:00Z",
            "to": "2018-01-20T12:30Z",
            "intensity": {"forecast": 266, "actual": 263, "index": "moderate"},
        }
    ]
}
"""The example of carbon-intensity/api-definitions e3f25a1, `docs/index.html`."""

WATTTIME_FORECAST: Document = {
    "data": [{"point_time": "2022-07-15T00:00:00+00:00", "value": 870}],
    "meta": {
        "data_point_period_seconds": 300,
        "region": "CAISO_NORTH",
        "warnings": [{"type": "EXAMPLE_WARNING", "message": "This is just an example"}],
        "signal_type": "co2_moer",
        "model": {"date": "2023-03-01"},
        "units": "lbs_co2_per_mwh",
        "generated_at_period_seconds": 300,
        "generated_at": "2022-07-15T00:00:00+00:00",
    },
}
"""The example of docs.watttime.org, OpenAPI of version 3."""
