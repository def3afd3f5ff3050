"""The dashboard of the grid: what a kilowatt hour emits, who says so, and how sure that is."""

from panels import NODE, NODES, Row, alerts, board, graph, latest, nodes, number, query, table
from panels.units import COUNT, GRAMS, GRAMS_PER_KWH, PER_SECOND, SECONDS

KIND = "grid_zone, signal, basis, accounting"
COUNTED = 'signal="average",accounting="location"'
"""What grams are counted with; another intensity is only shown."""
LEGEND = "{{grid_zone}}, {{signal}}, {{basis}}, {{accounting}}"
INTENSITY = "emissions_grid_intensity_grams_per_kwh"


def in_force(gauge: str) -> str:
    """The highest of a gauge on the nodes where a source is in force."""
    return (
        f"max by ({KIND}, source, estimated) (emissions_grid_intensity_info{{{NODES}}} "
        f"* on (instance, {KIND}) group_left () max by (instance, {KIND}) ({gauge}))"
    )


NOW = Row(
    "",
    (
        4,
        [
            number(
                "Intensity, mean",
                GRAMS_PER_KWH,
                "In force now, without PUE: what grams are counted with. The mean of the nodes.",
                latest(f"avg({INTENSITY}{{{NODES},{COUNTED}}})"),
            ),
            number(
                "With PUE, by energy",
                GRAMS_PER_KWH,
                "Grams for each kilowatt hour that devices use, as a mean of five minutes: "
                "weighted by energy, PUE included.",
                latest(
                    f"sum(instance:emissions_device_carbon_grams:rate5m{{{NODES}}}) / "
                    f"(sum(instance:emissions_device_energy_joules:rate5m{{{NODES}}}) > 0) * 3.6e6"
                ),
            ),
            number(
                "Oldest",
                SECONDS,
                "Age of the oldest value in force that says its time. Yearly values are old by "
                "nature.",
                latest(f"max(emissions_grid_intensity_age_seconds{{{NODES},{COUNTED}}})"),
                nothing="says no time",
            ),
            number(
                "On a stand-in",
                COUNT,
                "Nodes whose first source does not answer, so that another of the chain stands in.",
                latest(
                    "count(max by (instance) "
                    f"(emissions_grid_intensity_fallback_step{{{NODES}}}) > 0) or vector(0)"
                ),
                orange_from=1,
            ),
            number(
                "Without intensity",
                COUNT,
                "Nodes for which no source has a value: their grams stand still, and are filled in "
                "later.",
                latest(
                    f"count(max by (instance) (emissions_exporter_build_info{{{NODES}}}) "
                    "unless on (instance) "
                    f"{INTENSITY}{{{COUNTED}}}) or vector(0)"
                ),
                red_from=1,
            ),
            number(
                "PUE",
                "none",
                "Power usage effectiveness that emissions are multiplied by; the mean of the "
                "nodes.",
                latest(f"avg(emissions_pue_ratio{{{NODES}}})"),
            ),
            number(
                "On estimates",
                COUNT,
                "Nodes whose value its source calls an estimate, or a forecast.",
                latest(
                    "count(max by (instance) (emissions_grid_intensity_info"
                    f'{{{NODES},{COUNTED},estimated="true"}})) '
                    "or vector(0)"
                ),
            ),
        ],
    ),
)

COURSE = Row(
    "",
    (
        9,
        [
            graph(
                "Intensity, highest by zone",
                GRAMS_PER_KWH,
                "In force, without PUE, the highest of each zone and kind. Grams are counted with "
                "the average one by location; others are shown beside it.",
                query(f"max by ({KIND}) ({INTENSITY}{{{NODES}}})", LEGEND),
            ),
            graph(
                "Grams an hour by kind of intensity",
                GRAMS,
                "What all devices emit in an hour by each kind of intensity that is shown, as a "
                "mean of five minutes. They are never added.",
                query(
                    "3600 * sum by (signal, basis, accounting) "
                    "(instance_signal_basis_accounting:emissions_device_carbon_grams:rate5m"
                    f"{{{NODES}}})",
                    "{{signal}}, {{basis}}, {{accounting}}",
                ),
            ),
        ],
    ),
    (
        7,
        [
            table(
                "Sources in force",
                "Where the values come from, on how many nodes. Step is the place in the chain of "
                "sources: 0 is what was asked for.",
                {
                    "grid_zone": ("Zone", ""),
                    "source": ("Source", ""),
                    "signal": ("Signal", ""),
                    "basis": ("Basis", ""),
                    "accounting": ("Accounting", ""),
                    "estimated": ("Estimated", ""),
                    "Value #A": ("Nodes", COUNT),
                    "Value #B": ("Age", SECONDS),
                    "Value #C": ("Step", COUNT),
                },
                latest(
                    f"count by ({KIND}, source, estimated) "
                    f"(max by (instance, {KIND}, source, estimated) "
                    f"(emissions_grid_intensity_info{{{NODES}}}))"
                ),
                latest(in_force("emissions_grid_intensity_age_seconds")),
                latest(in_force("emissions_grid_intensity_fallback_step")),
                sort_by="Nodes",
            ),
        ],
    ),
    (
        8,
        [
            graph(
                "Age, oldest by zone",
                SECONDS,
                "Of the oldest value in force of each zone and kind. It grows while a source does "
                "not answer.",
                query(f"max by ({KIND}) (emissions_grid_intensity_age_seconds{{{NODES}}})", LEGEND),
            ),
            graph(
                "Nodes by step of their chain",
                COUNT,
                "0 is the source that was asked for, 1 the first that stands in for it.",
                query(
                    'count_values("step", max by (instance) '
                    f"(emissions_grid_intensity_fallback_step{{{NODES},{COUNTED}}}))",
                    "step {{step}}",
                ),
                stacked=True,
            ),
        ],
    ),
    (
        8,
        [
            graph(
                "Requests to live sources",
                PER_SECOND,
                "By source and how they went. `ok` is a good answer.",
                query(
                    "sum by (source, outcome) (rate(emissions_grid_intensity_requests_total"
                    f"{{{NODES}}}[$__rate_interval]))",
                    "{{source}}: {{outcome}}",
                ),
            ),
            table(
                "Sources that fail",
                "Live sources that did not answer at their last try, and nodes that ask them.",
                {"collector": ("Source", ""), "instance": ("Node", "")},
                latest(
                    "min by (collector, instance) "
                    f'(emissions_collector_success{{{NODES},collector=~"intensity.*"}}) == 0'
                ),
                links={"Node": NODE.of_field("Node")},
            ),
        ],
    ),
)

dashboard = board(
    "Emissions: grid intensity",
    "emissions-grid",
    "What a kilowatt hour emits, where that number comes from, and how old it is.",
    [NOW, COURSE],
    [nodes()],
    [alerts('alertname=~"EmissionsIntensity.+"')],
)
