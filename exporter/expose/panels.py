"""The tables of the live page: devices, runs, what no run used, methods, grid, collectors."""

from collections.abc import Iterable, Sequence

from exporter import human, units
from exporter.expose.charts import Charts, chart
from exporter.expose.markup import Markup, tag
from exporter.expose.table import Cell, bar, bold, number, table, verdict
from exporter.expose.view import Tally, View
from exporter.model.intensity import Factor, FeedState
from exporter.model.readings import Method
from exporter.model.runs import RunInfo
from exporter.model.snapshot import DeviceState, GridState, Snapshot
from exporter.model.workload import CollectorState, Reason, Split

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


def devices(snapshot: Snapshot, view: View, charts: Charts) -> Markup:
    """Each device: what it draws, used, and how much of that went to runs."""
    has_gpus = any(state.utilization is not None for state in snapshot.devices)
    rows = []
    for state in snapshot.devices:
        tally = view.devices[state.info.device]
        to_runs = view.attributed[state.info.device].total_uj
        rows.append(
            (
                bold(device_name(state), _what(state)),
                number(human.watts(state.power_watts), _limit(state)),
                Cell(chart(charts.devices.get(state.info.device))),
                *([number(_busy(state))] if has_gpus else []),
                number(human.energy(tally.total_uj)),
                number(human.carbon(tally.total_ng)),
                bar(to_runs, tally.total_uj),
                Cell(_method(state.info.method), state.info.source),
                verdict("up" if state.up else "silent", _silence(state), ok=state.up),
            )
        )
    heads = (
        *("Device", ">Power", "Last hour", *([">Busy"] if has_gpus else [])),
        *(">Energy", ">Emissions", ">To runs", "How it is got", "State"),
    )
    return table("Devices", heads, rows, "No energy source can be read; see the collectors below.")


def runs(snapshot: Snapshot, view: View, charts: Charts) -> Markup:
    """Each run on the page, open ones first."""
    totals = view.run_totals()
    rows = []
    for run in snapshot.runs:
        tally = totals[run.shown_id, run.key.job_id]
        until = snapshot.wall if run.ended is None else run.ended
        state = "open" if run.ended is None else "ended"
        named = run.name if run.name != run.shown_id else ""
        rows.append(
            (
                bold(run.shown_id, named),
                Cell(run.key.job_id or human.UNKNOWN),
                Cell(run.user or human.UNKNOWN, run.account),
                Cell(state, run.end_reason, state),
                number(human.watts(tally.power_watts)),
                Cell(chart(charts.runs.get(run.key))),
                number(human.energy(tally.total_uj)),
                number(human.carbon(tally.total_ng), _budget(run, tally)),
                number(tag("time", human.moment(run.started))),
                number(human.duration(max(0.0, until - run.started))),
            )
        )
    heads = (
        *("Run", "Job", "User", "State"),
        *(">Power", "Last hour", ">Energy", ">Emissions", ">Since, UTC", ">For"),
    )
    return table(
        "Runs", heads, rows, "No run is open. Start one: emissions-exporter run -- COMMAND"
    )


def _budget(run: RunInfo, tally: Tally) -> str:
    if run.budget_grams is None:
        return ""
    grams = units.grams(tally.total_ng)
    return f"{human.share(grams, run.budget_grams)} of {human.number(run.budget_grams)} g"


def unattributed(view: View) -> Markup:
    """What was charged to no run, by reason, over all devices."""
    whole = summed(view.devices.values())
    rows = []
    for reason in Reason:
        tally = summed(t for (_, _, of), t in view.unattributed.items() if of == reason)
        if tally.total_uj:
            rows.append(
                (
                    bold(reason.replace("_", " "), WHY[reason]),
                    number(human.watts(tally.power_watts)),
                    number(human.energy(tally.total_uj)),
                    number(human.carbon(tally.total_ng)),
                    bar(tally.total_uj, whole.total_uj),
                )
            )
    heads = ("Reason", ">Power", ">Energy", ">Emissions", ">Of the machine")
    return table("Charged to no run", heads, rows, "Nothing yet.")


def methods(view: View) -> Markup:
    """How much was measured and how much estimated."""
    whole = summed(view.devices.values())
    rows = []
    for method in Method:
        found = {labels: t for labels, t in view.by_method.items() if labels[2] == method}
        tally = summed(found.values())
        if tally.total_uj:
            kinds = sorted({kind for (kind, _, _), t in found.items() if t.total_uj})
            rows.append(
                (
                    Cell(_method(method), HOW[method]),
                    Cell(", ".join(kinds)),
                    number(human.energy(tally.total_uj)),
                    bar(tally.total_uj, whole.total_uj),
                )
            )
    heads = ("Method", "Devices", ">Energy", ">Of the machine")
    return table("How the energy was got", heads, rows, "Nothing yet.")


def splits(view: View) -> Markup:
    """How it was found which run used a device."""
    whole = summed(view.attributed.values())
    rows = []
    for split in Split:
        found = {labels: t for labels, t in view.by_split.items() if labels[2] == split}
        tally = summed(found.values())
        if tally.total_uj:
            kinds = sorted({kind for kind, _, _ in found})
            rows.append(
                (
                    Cell(human.SPLITS[split]),
                    Cell(", ".join(kinds)),
                    number(human.energy(tally.total_uj)),
                    bar(tally.total_uj, whole.total_uj),
                )
            )
    heads = ("Split", "Devices", ">Energy", ">Of all runs")
    return table("How it was shared between runs", heads, rows, "Nothing yet.")


def grid(state: GridState, now: float) -> Markup:
    """The intensity in force and where it comes from, the second one, and the live sources."""
    states = [state] if state.second is None else [state, state.second]
    rows = [_in_force(each, each.factor) for each in states if each.factor is not None]
    heads = ("Zone", ">Intensity", "Source", "Counts", ">PUE", ">Fallback step")
    nothing = f"None is known, grams stand still: {state.why}"
    return Markup(table("Grid intensity", heads, rows, nothing) + _feeds(state.feeds, now))


def _in_force(state: GridState, factor: Factor) -> tuple[Cell, ...]:
    age = "" if state.age_seconds is None else f"{human.duration(state.age_seconds)} old"
    return (
        bold(factor.zone, state.why),
        number(intensity(factor), age),
        Cell(factor.source, "estimated" if factor.estimated else ""),
        Cell(f"{factor.signal}, {factor.basis}, {factor.accounting}"),
        number(f"{factor.pue:g}"),
        number(str(factor.step)),
    )


def _feeds(feeds: Sequence[FeedState], now: float) -> Markup:
    if not feeds:
        return Markup("")
    rows = [
        (
            bold(feed.name, feed.zone),
            _fares(feed),
            number(str(sum(times for _, times in feed.requests)), _failures(feed)),
            number("never" if feed.answered is None else f"{_since(feed.answered, now)} ago"),
            Cell(feed.why, class_="prose"),
        )
        for feed in feeds
    ]
    heads = ("Source", "State", ">Requests", ">Last answer", "What to do")
    return table("Live sources of intensity", heads, rows, "")


def _fares(feed: FeedState) -> Cell:
    if not any(times for _, times in feed.requests) and feed.answered is None:
        return Cell("stands by")
    return verdict("works" if feed.ok else "does not work", ok=feed.ok)


def _failures(feed: FeedState) -> str:
    return ", ".join(f"{outcome} {times}" for outcome, times in feed.requests if outcome != "ok")


def _since(moment: float, now: float) -> str:
    return human.duration(max(0.0, now - moment))


def collectors(states: Sequence[CollectorState]) -> Markup:
    """Which sources work, and what to do about those that do not."""
    rows = [
        (
            bold(state.name),
            verdict("works" if state.ok else "does not work", ok=state.ok),
            number(human.duration(state.seconds)),
            Cell(state.why, class_="prose"),
        )
        for state in states
    ]
    return table("Collectors", ("Collector", "State", ">Took", "Remark"), rows, "None is on.")


def intensity(factor: Factor | None) -> str:
    """Grams of CO2 equivalent per kilowatt hour."""
    return human.UNKNOWN if factor is None else f"{human.number(factor.grams_per_kwh)} g/kWh"


def summed(tallies: Iterable[Tally]) -> Tally:
    """The sum of sums."""
    total = Tally()
    for tally in tallies:
        total.include(tally)
    return total


def device_name(state: DeviceState) -> str:
    """A device as a person calls it: its kind, and its number or id."""
    kind, name = state.info.device
    return f"{kind} {state.info.ordinal or name}"


def _what(state: DeviceState) -> str:
    """What a device is, and how it is divided."""
    look = state.occupancy
    if look is None or not look.slices:
        return state.info.model
    used = sum(part.slices for part in look.partitions)
    parts = f"MIG, {len(look.partitions)} parts with {used:.3g} of {look.slices} slices"
    return f"{state.info.model}, {parts}" if state.info.model else parts


def _busy(state: DeviceState) -> str:
    return "" if state.utilization is None else human.share(state.utilization, 1)


def _limit(state: DeviceState) -> str:
    limit = state.info.power_limit_watts
    return "" if limit is None else f"of {human.watts(limit)}"


def _silence(state: DeviceState) -> str:
    return "" if state.up else f"for {human.duration(state.age_seconds)}: {state.why}"


def _method(method: Method) -> Markup:
    return tag("span", method, class_=f"method {method}")
