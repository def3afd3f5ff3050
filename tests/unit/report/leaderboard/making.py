"""Records of runs, as a daemon tells of them, and entries made of them."""

from exporter.report.leaderboard.entry import make_entries

USE = {
    "zone": "DE",
    "source": "a table",
    "grams_per_kwh": 360.0,
    "pue": 1.0,
    "signal": "average",
    "basis": "lifecycle",
    "accounting": "location",
}
JOULES_PER_GRAM = 10_000
"""At 360 g/kWh."""


def record(name="a", grams=1.0, *, held=0.0, method="counter", use=USE, **more):
    """A run that ended and emitted so many grams, `held` of them idle."""
    energy_uj = round(grams * JOULES_PER_GRAM * 10**6)
    carbon_ng = round(grams * 10**9) if use["zone"] else 0
    amounts = {"energy_uj": energy_uj, "carbon_ng": carbon_ng}
    held_uj = round(energy_uj * held)
    part = {"device": "cpu", "id": "package-0", "method": method, "split": "cpu_time"}
    return {
        "version": 1,
        "run_id": name,
        "job_id": "",
        "user": "ada",
        "node": "n1",
        "nodes": None,
        "started": 1_000.0,
        "ended": 1_100.0,
        "duration_seconds": 100.0,
        "at": 1_200.0,
        **amounts,
        "held_uj": held_uj,
        "parts": [{**part, **amounts, "held_uj": held_uj}] if energy_uj else [],
        "intensity": [{**use, **amounts}] if energy_uj else [],
        "units": {},
        "logged": {},
        "labels": {},
        **more,
    }


def logged(name, grams, **values):
    """A record of a run that logged values."""
    return record(name, grams, logged=values)


def entry(*arguments, **more):
    """The entry of one record."""
    (found,) = make_entries([record(*arguments, **more)])
    return found
