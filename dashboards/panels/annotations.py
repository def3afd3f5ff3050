"""Annotations: events drawn across all graphs of a dashboard."""

from typing import Any

from panels.queries import ALERTS, DATA_SOURCE, RUN_BY


def runs_begin(where: str) -> dict[str, Any]:
    """Annotate the starts of runs."""
    return _at("Run starts", "emissions_run_start_time_seconds", where, "blue")


def runs_end(where: str) -> dict[str, Any]:
    """Annotate the ends of runs."""
    return _at("Run ends", "emissions_run_end_time_seconds", where, "purple")


def alerts(where: str = "") -> dict[str, Any]:
    """Annotate firing alerts; disabled by default, as they may cover the whole graph."""
    matchers = f",{where}}}" if where else "}"
    annotation = _annotation("Alerts", ALERTS.replace("}", matchers), "red")
    text = "{{severity}} {{instance}} {{run_id}} {{budget}}"
    return {**annotation, "enable": False, "titleFormat": "{{alertname}}", "textFormat": text}


def _at(name: str, metric: str, where: str, color: str) -> dict[str, Any]:
    """Annotate the times that are the values of a metric, in seconds."""
    expr = f"1000 * max by ({RUN_BY}) ({metric}{{{where}}})"
    annotation = _annotation(name, expr, color)
    return {**annotation, "titleFormat": f"{name}: {{{{run_id}}}}", "useValueForTime": True}


def _annotation(name: str, expr: str, color: str) -> dict[str, Any]:
    return {
        "name": name,
        "datasource": DATA_SOURCE,
        "enable": True,
        "expr": expr,
        "step": "60s",
        "iconColor": color,
    }
