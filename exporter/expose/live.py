"""The live page: what the machine spends now, on what, and how every number was got."""

import base64
import hashlib
from pathlib import Path

from exporter import __version__, human
from exporter.expose.charts import Charts
from exporter.expose.markup import Markup, tag, together
from exporter.expose.panels import (
    collectors,
    device_name,
    devices,
    grid,
    intensity,
    methods,
    runs,
    splits,
    summed,
    unattributed,
)
from exporter.expose.view import View
from exporter.model.intensity import Factor
from exporter.model.snapshot import DeviceState, Health, Snapshot

NO_CHARTS = Charts()
STATIC = Path(__file__).parent / "static"
HTML_TYPE = "text/html; charset=utf-8"
LINKS = ("/metrics", "/api/v1/runs", "/api/v1/devices", "/api/v1/intensity", "/api/v1/snapshot")


class LivePage:
    """Renders the page; `policy` lets a browser run exactly what it brings."""

    def __init__(self) -> None:
        style = (STATIC / "live.css").read_text(encoding="utf-8")
        script = (STATIC / "live.js").read_text(encoding="utf-8")
        self._style, self._script = Markup(style), Markup(script)
        self.policy = (
            f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )

    def render(self, view: View, charts: Charts = NO_CHARTS) -> bytes:
        """The page of a tick."""
        return self._document(view.snapshot, view, charts).encode("utf-8", "replace")

    def _document(self, snapshot: Snapshot, view: View, charts: Charts) -> str:
        power = human.watts(machine_watts(snapshot.devices))
        head = tag(
            "head",
            Markup('<meta charset="utf-8">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup('<link rel="icon" href="data:,">'),
            tag(
                "noscript", Markup(f'<meta http-equiv="refresh" content="{_period(snapshot):.0f}">')
            ),
            tag("title", f"{power} \u00b7 {snapshot.node}"),
            tag("style", self._style),
        )
        links = [together(" ", tag("a", path, href=path)) for path in LINKS]
        body = tag(
            "body",
            main(snapshot, view, charts),
            tag("footer", f"emissions-exporter {__version__}", *links),
            tag("script", self._script),
        )
        return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def main(snapshot: Snapshot, view: View, charts: Charts = NO_CHARTS) -> Markup:
    """All that changes from tick to tick."""
    return tag(
        "main",
        tag(
            "header",
            tag("h1", snapshot.node),
            tag(
                "p",
                f"every {snapshot.interval_seconds:g} s \u00b7 ",
                tag("time", f"{human.moment(snapshot.wall)} UTC"),
            ),
        ),
        _figures(snapshot, view),
        _warnings(snapshot),
        devices(snapshot, view, charts),
        runs(snapshot, view, charts),
        unattributed(view),
        methods(view),
        splits(view),
        grid(snapshot.grid, snapshot.wall),
        collectors(snapshot.collectors),
        data_interval_ms=f"{1000 * _period(snapshot):.0f}",
    )


def machine_watts(devices: tuple[DeviceState, ...]) -> float | None:
    """Power of all devices whose power is known; None where none is."""
    known = [state.power_watts for state in devices if state.power_watts is not None]
    return sum(known) if known else None


def _figures(snapshot: Snapshot, view: View) -> Markup:
    known = sum(state.power_watts is not None for state in snapshot.devices)
    total = summed(view.devices.values())
    factor = snapshot.grid.factor
    of_devices = f"{known} of {len(snapshot.devices)} devices"
    return tag(
        "section",
        _figure("Power now", human.watts(machine_watts(snapshot.devices)), of_devices),
        _figure("Energy", human.energy(total.total_uj), "since the ledger began"),
        _figure(
            "Emissions",
            human.carbon(total.total_ng),
            "CO\u2082 equivalent" + (f", PUE {factor.pue:g}" if factor else ""),
        ),
        _figure("Grid", intensity(factor), _origin(factor)),
        class_="figures",
    )


def _origin(factor: Factor | None) -> str:
    if factor is None:
        return "no intensity is known"
    return f"{factor.zone}, {factor.basis}{', estimated' if factor.estimated else ''}"


def _figure(label: str, value: str, remark: str) -> Markup:
    return tag("div", tag("h2", label), tag("b", value), tag("small", remark))


def _warnings(snapshot: Snapshot) -> Markup:
    """What is wrong, the daemon's own ailments first."""
    lines = [
        f"{device_name(state)}: no reading for {human.duration(state.age_seconds)}: {state.why}"
        for state in snapshot.devices
        if not state.up
    ]
    if snapshot.grid.factor is None:
        lines.append(f"Emissions stand still: {snapshot.grid.why}")
    items = [
        *[tag("li", line, class_="grave") for line in _ailments(snapshot.health)],
        *[tag("li", line) for line in (*lines, *snapshot.notes)],
    ]
    return tag("ul", *items, class_="warnings") if items else Markup("")


def _ailments(health: Health) -> list[str]:
    found = []
    if health.sick:
        found.append(f"This daemon cannot heal by itself: {health.sick}")
    if health.ledger_why:
        found.append(f"The ledger could not be written: {health.ledger_why}")
    if health.imbalance_uj:
        found.append(f"The books are out of balance by {health.imbalance_uj} \u00b5J")
    if health.series_dropped:
        found.append(f"{health.series_dropped} runs are shown together as `other`: too many")
    return found


def _period(snapshot: Snapshot) -> float:
    """Seconds between two looks of a browser."""
    return max(1.0, snapshot.interval_seconds)


def _digest(text: str) -> str:
    """A text's hash as a content security policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
