"""What a run drew over its time."""

from exporter import human
from exporter.expose.page.charts import stacked
from exporter.expose.page.history import Past
from exporter.markup import Markup, tag

SOON = "The ledger has the first minute of it soon."
NONE = "Not known: it was measured by another tool."
MISSING = "The ledger does not answer; see the warnings on the page of the node."


def course(past: Past | None, *, is_told: bool) -> Markup:
    """Power over time, by kind of device; there is none of a run that another tool told of."""
    title = tag("h2", "Power over time")
    if past is None or not past.kinds:
        empty = NONE if is_told else SOON
        return tag("section", title, tag("p", MISSING if past is None else empty))
    sums = [sum(step) for step in zip(*past.kinds.values(), strict=True)]
    most, mean = human.watts(max(sums)), human.watts(past.mean_watts)
    since, until = human.moment(past.since), human.moment(past.until)
    said = f"from {since} to {until} UTC: at most {most}, {mean} in the mean"
    legend = [tag("li", kind, class_=kind) for kind in past.kinds]
    return tag(
        "section",
        title,
        tag(
            "figure",
            tag("figcaption", tag("span", f"at most {most}, mean {mean}"), tag("ul", *legend)),
            stacked(past.kinds, f"power {said}"),
            tag("div", tag("time", since), tag("time", f"{until} UTC"), class_="axis"),
        ),
    )
