"""The live page: what the machine spends now, on what, and how every number was got."""

import base64
import hashlib
from pathlib import Path

from exporter import __version__
from exporter.expose import human
from exporter.expose.board import Current
from exporter.expose.http1 import Response
from exporter.expose.markup import Markup, tag, together
from exporter.expose.view import Tally, View
from exporter.model.intensity import Factor
from exporter.model.readings import Method
from exporter.model.runs import RunInfo
from exporter.model.snapshot import DeviceState, Health, Snapshot
from exporter.model.workload import CollectorState, Reason

STATIC = Path(__file__).parent / "static"
HTML_TYPE = "text/html; charset=utf-8"
HOW = {
    Method.COUNTER: "read from the hardware's own energy counter",
    Method.INTEGRATED: "power readings summed up over time",
    Method.ESTIMATED: "no reading could be had: a model of the hardware, not a measurement",
}
WHY = {
    Reason.IDLE: "what the hardware draws when nobody uses it",
    Reason.OTHER: "work that belongs to no run",
    Reason.UNALLOCATED: "devices that nobody holds",
    Reason.UNKNOWN_PROCESS: "processes whose owner could not be found",
    Reason.RESTART: "used while this exporter was not running",
}
LINKS = ("/metrics", "/api/v1/runs", "/api/v1/devices", "/api/v1/intensity", "/api/v1/snapshot")


class LivePage:
    """Renders the page, once per tick that somebody looks at."""

    def __init__(self) -> None:
        style = (STATIC / "live.css").read_text(encoding="utf-8")
        script = (STATIC / "live.js").read_text(encoding="utf-8")
        self._style, self._script = Markup(style), Markup(script)
        self._policy = (
            f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        self._shown: tuple[Current, Response] | None = None

    def response(self, current: Current) -> Response:
        """The page of a tick."""
        if self._shown is None or self._shown[0] is not current:
            body = self._document(current.snapshot, current.view).encode("utf-8", "replace")
            self._shown = current, Response(200, body, HTML_TYPE, policy=self._policy)
        return self._shown[1]

    def _document(self, snapshot: Snapshot, view: View) -> str:
        seconds = f"{snapshot.interval_seconds:.0f}"
        power = human.watts(machine_watts(snapshot.devices))
        head = tag(
            "head",
            Markup('<meta charset="utf-8">'),
            Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup('<link rel="icon" href="data:,">'),
            tag("noscript", Markup(f'<meta http-equiv="refresh" content="{seconds}">')),
            tag("title", f"{power} \u00b7 {snapshot.node}"),
            tag("style", self._style),
        )
        links = [together(" ", tag("a", path, href=path)) for path in LINKS]
        body = tag(
            "body",
            main(snapshot, view),
            tag("footer", f"emissions-exporter {__version__}", *links),
            tag("script", self._script),
        )
        return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def main(snapshot: Snapshot, view: View) -> Markup:
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
        _devices(snapshot, view),
        _runs(snapshot, view),
        _unattributed(view),
        _methods(view),
        _grid(snapshot),
        _collectors(snapshot.collectors),
        data_interval_ms=f"{1000 * snapshot.interval_seconds:.0f}",
    )


def machine_watts(devices: tuple[DeviceState, ...]) -> float | None:
    """Power of all devices whose power is known; None where none is."""
    known = [state.power_watts for state in devices if state.power_watts is not None]
    return sum(known) if known else None


def _figures(snapshot: Snapshot, view: View) -> Markup:
    known = sum(state.power_watts is not None for state in snapshot.devices)
    total = _sum(view.devices.values())
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
        _figure("Grid", _intensity(factor), _origin(factor)),
        class_="figures",
    )


def _figure(label: str, value: str, remark: str) -> Markup:
    return tag("div", tag("h2", label), tag("b", value), tag("small", remark))


def _warnings(snapshot: Snapshot) -> Markup:
    health = snapshot.health
    lines = [
        f"{_name(state)}: no reading for {human.duration(state.age_seconds)}: {state.why}"
        for state in snapshot.devices
        if not state.up
    ]
    if snapshot.grid.factor is None:
        lines.append(f"Emissions stand still: {snapshot.grid.why}")
    lines += _ailments(health)
    lines += snapshot.notes
    if not lines:
        return Markup("")
    return tag("ul", *[tag("li", line) for line in lines], class_="warnings")


def _ailments(health: Health) -> list[str]:
    found = []
    if health.ledger_why:
        found.append(f"The ledger could not be written: {health.ledger_why}")
    if health.imbalance_uj:
        found.append(f"The books are out of balance by {health.imbalance_uj} \u00b5J")
    if health.series_dropped:
        found.append(f"{health.series_dropped} runs are shown together as `other`: too many")
    return found


def _devices(snapshot: Snapshot, view: View) -> Markup:
    rows = []
    for state in snapshot.devices:
        tally = view.devices[state.info.device]
        to_runs = view.attributed[state.info.device].total_uj
        rows.append(
            _row(
                tag("td", tag("b", _name(state)), tag("small", state.info.model)),
                _number(human.watts(state.power_watts), _limit(state)),
                _number(human.energy(tally.total_uj)),
                _number(human.carbon(tally.total_ng)),
                tag("td", _bar(to_runs, tally.total_uj), class_="n"),
                tag("td", _method(state.info.method), tag("small", state.info.source)),
                _state(
                    state.up, "up" if state.up else f"silent {human.duration(state.age_seconds)}"
                ),
            )
        )
    heads = ("Device", "Power", "Energy", "Emissions", "To runs", "How it is got", "State")
    return _table("Devices", heads, rows, "No energy source can be read; see the collectors below.")


def _runs(snapshot: Snapshot, view: View) -> Markup:
    totals = view.run_totals()
    rows = []
    for run in snapshot.runs:
        tally = totals[run.shown_id, run.key.job_id]
        until = snapshot.wall if run.ended is None else run.ended
        state = "open" if run.ended is None else "ended"
        named = run.name if run.name != run.shown_id else ""
        rows.append(
            _row(
                tag("td", tag("b", run.shown_id), tag("small", named)),
                tag("td", run.key.job_id or human.UNKNOWN),
                tag("td", run.user or human.UNKNOWN, tag("small", run.account)),
                tag("td", state, tag("small", run.end_reason), class_=state),
                _number(human.watts(tally.power_watts)),
                _number(human.energy(tally.total_uj)),
                _number(human.carbon(tally.total_ng), _budget(run, tally)),
                tag("td", tag("time", human.moment(run.started)), class_="n"),
                _number(human.duration(max(0.0, until - run.started))),
            )
        )
    heads = ("Run", "Job", "User", "State", "Power", "Energy", "Emissions", "Since, UTC", "For")
    return _table(
        "Runs", heads, rows, "No run is open. Start one: emissions-exporter run -- COMMAND"
    )


def _budget(run: RunInfo, tally: Tally) -> str:
    if run.budget_grams is None:
        return ""
    grams = units.grams(tally.total_ng)
    return f"{human.share(grams, run.budget_grams)} of {human.number(run.budget_grams)} g"


def _unattributed(view: View) -> Markup:
    whole = _sum(view.devices.values())
    rows = []
    for reason in Reason:
        tally = _sum(t for (_, _, of), t in view.unattributed.items() if of == reason)
        if tally.total_uj:
            rows.append(
                _row(
                    tag("td", tag("b", reason.replace("_", " ")), tag("small", WHY[reason])),
                    _number(human.watts(tally.power_watts)),
                    _number(human.energy(tally.total_uj)),
                    _number(human.carbon(tally.total_ng)),
                    tag("td", _bar(tally.total_uj, whole.total_uj), class_="n"),
                )
            )
    heads = ("Reason", "Power", "Energy", "Emissions", "Of the machine")
    return _table("Charged to no run", heads, rows, "Nothing yet.")


def _methods(view: View) -> Markup:
    whole = _sum(view.devices.values())
    rows = []
    for method in Method:
        found = {labels: t for labels, t in view.by_method.items() if labels[2] == method}
        tally = _sum(found.values())
        if tally.total_uj:
            kinds = sorted({kind for (kind, _, _), t in found.items() if t.total_uj})
            rows.append(
                _row(
                    tag("td", _method(method), tag("small", HOW[method])),
                    tag("td", ", ".join(kinds)),
                    _number(human.energy(tally.total_uj)),
                    tag("td", _bar(tally.total_uj, whole.total_uj), class_="n"),
                )
            )
    heads = ("Method", "Devices", "Energy", "Of the machine")
    return _table("How the energy was got", heads, rows, "Nothing yet.")
