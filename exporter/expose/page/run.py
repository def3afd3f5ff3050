"""The page of one run: its receipt, as it stands now."""

from collections.abc import Mapping
from typing import NamedTuple

from exporter import human, units
from exporter.expose.page.document import INNER, METRICS, document
from exporter.expose.page.history import Past
from exporter.expose.page.panels.budget import budget
from exporter.expose.page.panels.course import course
from exporter.expose.page.panels.doubts import estimated, unpriced
from exporter.expose.page.panels.downloads import downloads
from exporter.expose.page.panels.facts import facts
from exporter.expose.page.panels.figures import figure, figures
from exporter.expose.page.panels.intensities import intensities
from exporter.expose.page.panels.parts import parts
from exporter.expose.page.panels.relations import relations
from exporter.expose.page.panels.results import results
from exporter.expose.page.panels.runs import called, id_beside_name
from exporter.markup import Markup, tag, together
from exporter.model.readings import Method
from exporter.model.record import Form, RunRecord
from exporter.model.runs import HISTORY, REPLAY
from exporter.model.snapshot import Snapshot, run_power_watts

ENDED_SECONDS = 60.0
"""Between two looks at a run that has ended: grams may still be filled in."""


REPLAYED = tag(
    "ul",
    tag("li", "nothing was measured: this run was played back from a recording"),
    class_="warnings",
)


class Shown(NamedTuple):
    """A run, and what is known around it."""

    record: RunRecord
    snapshot: Snapshot
    past: Past | None
    """None: the ledger cannot say."""
    forms: Mapping[str, Form]


def run_page(shown: Shown, telemetry_path: str = METRICS) -> bytes:
    """The page of a run."""
    record, snapshot, past, forms = shown
    run = record.run
    states = {state.info.device: state for state in snapshot.devices}
    main = together(
        _header(record),
        _figures(record, snapshot),
        *([REPLAYED] if run.origin == REPLAY else []),
        tag("div", budget(record)),
        course(past, is_told=run.key.uid == HISTORY),
        parts(record, states),
        intensities(record),
        tag("div", results(record)),
        tag("div", relations(run, snapshot, INNER)),
        facts(record, snapshot, INNER),
        downloads(run, forms, INNER),
    )
    period = max(1.0, snapshot.interval_seconds) if run.ended is None else ENDED_SECONDS
    title = f"{called(run)} \u00b7 {human.carbon(record.carbon_ng)} \u00b7 {record.node}"
    return document(human.printable(title), main, INNER, period, telemetry_path)


def _header(record: RunRecord) -> Markup:
    run = record.run
    other = id_beside_name(run)
    return tag(
        "header",
        tag("nav", tag("a", f"\u2190 {record.node}", href=INNER)),
        tag("h1", tag("bdi", called(run))),
        *([tag("p", tag("bdi", other))] if other else []),
        tag("p", tag("time", f"{human.moment(record.at)} UTC"), class_="now"),
    )


def _figures(record: RunRecord, snapshot: Snapshot) -> Markup:
    run = record.run
    energy_uj, held_uj = record.energy_uj, record.held_uj
    guessed = sum(p.amount.energy_uj for p in record.parts if p.method is Method.ESTIMATED)
    held = f"{human.energy(energy_uj - held_uj)} active, {human.energy(held_uj)} held idle"
    return figures(
        figure(
            "Energy",
            human.energy(energy_uj),
            held if held_uj else "all of it active",
            estimated(guessed, energy_uj),
        ),
        figure(
            "Emissions",
            human.carbon(record.carbon_ng),
            _mean(record),
            unpriced(record.factors),
        ),
        figure(*_power(record, snapshot)),
        figure("Took" if run.ended else "Running for", human.duration(record.duration_seconds)),
    )


def _mean(record: RunRecord) -> str:
    """What the energy that has an intensity was converted with, in the mean."""
    priced_uj = sum(use.energy_uj for use in record.factors if use.factor is not None)
    if not priced_uj:
        return "CO\u2082 equivalent"
    mean = units.grams(record.carbon_ng) / units.kwh(priced_uj)
    return f"CO\u2082 equivalent; {human.number(mean)} g/kWh in the mean, PUE included"


def _power(record: RunRecord, snapshot: Snapshot) -> tuple[str, str, str]:
    if record.run.ended is None:
        return "Power now", human.watts(run_power_watts(snapshot, record.run)), ""
    seconds = record.duration_seconds
    mean = units.joules(record.energy_uj) / seconds if seconds else None
    return "Mean power", human.watts(mean), record.run.end_reason
