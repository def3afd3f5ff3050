"""Made-up hosts that stand at a chosen second of their period, and run faster."""

from typing import Any

LASTS_SECONDS = 3600.0
CURVES = ("watts", "cpu", "active", "other_cpu")


def playing(host: dict[str, Any], second: float, times: float, now: float) -> dict[str, Any]:
    """`host` as if it were at `second` of its period at `now` (CLOCK_BOOTTIME, in seconds).

    It goes on `times` as fast, and does not begin again within an hour. What ends with the period
    does not end.
    """
    period = host["period_seconds"]
    lasts = now + LASTS_SECONDS

    def moved(value: float) -> float:
        return min(lasts, max(0.0, now + (value - second) / times))

    def curve(points: list[list[float]]) -> list[list[float]]:
        return [[moved(time), value] for time, value in points]

    def change(value: Any) -> Any:
        if isinstance(value, list):
            return [change(item) for item in value]
        if not isinstance(value, dict):
            return value
        changed = {key: change(item) for key, item in value.items()}
        changed |= {key: curve(value[key]) for key in CURVES if key in value}
        if "counts" in value:
            changed["counts"] = {unit: curve(rate) for unit, rate in value["counts"].items()}
        if "starts" in value:
            changed["starts"] = moved(value["starts"])
            changed["ends"] = lasts if value["ends"] == period else moved(value["ends"])
        return changed

    return {**change(host), "period_seconds": lasts}
