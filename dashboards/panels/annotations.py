"""What happened, drawn across all graphs of a board."""

from typing import Any

from panels.queries import ALERTS, DATA_SOURCE


def runs_begin(where: str) -> dict[str, Any]:
    """When runs began."""
    return _at("Runs begin", "emissions_run_start_time_seconds", where, "blue")


def runs_end(where: str) -> dict[str, Any]:
    """When runs ended."""
    return _at("Runs end", "emissions_run_end_time_seconds", where, "purple")


def alerts(where: str = "") -> dict[str, Any]:
    """When alerts of these rules fired; off until somebody asks, as they may cover all."""
    matchers = f",{where}}}" if where else "}"
    made = _annotation("Alerts", ALERTS.replace("}", matchers), "red")
    text = "{{severity}} {{instance}} {{run_id}} {{budget}}"
    return {**made, "enable": False, "titleFormat": "{{alertname}}", "textFormat": text}


def _at(name: str, metric: str, where: str, color: str) -> dict[str, Any]:
    """Events at the times that a metric has as its value, in seconds."""
    expr = f"1000 * max by (run_id, job_id) ({metric}{{{where}}})"
    made = _annotation(name, expr, color)
    return {**made, "titleFormat": f"{name}: {{{{run_id}}}}", "useValueForTime": True}


def _annotation(name: str, expr: str, color: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": DATA_SOURCE,
        "enable": True,
        "expr": expr,
        "step": "60s",
        "iconColor": color,
    }
