"""The dashboard of the grid: carbon intensity, its sources, and their age and failures."""

from panels import NODE, NODES, Row, alerts, board, graph, latest, nodes, number, query, table
from panels.units import COUNT, GRAMS, GRAMS_PER_KWH, PER_SECOND, SECONDS

KIND = "grid_zone, signal, basis, accounting"
COUNTED = 'signal="average",accounting="location"'
"""The intensity by which emissions are calculated; others are only exported."""
LEGEND = "{{grid_zone}}, {{signal}}, {{basis}}, {{accounting}}"
INTENSITY = "emissions_grid_intensity_grams_per_kwh"


def in_effect(gauge: str) -> str:
    """Maximum of a gauge over the nodes on which a source is in effect."""
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
                "Carbon intensity in effect, excluding PUE, by which emissions are calculated; "
                "mean over the nodes.",
                latest(f"avg({INTENSITY}{{{NODES},{COUNTED}}})"),
            ),
            number(
                "With PUE, by energy",
                GRAMS_PER_KWH,
                "Grams per kilowatt hour used by devices, averaged over five minutes: weighted by "
                "energy, including PUE.",
                latest(
                    f"sum(instance:emissions_device_carbon_grams:rate5m{{{NODES}}}) / "
                    f"(sum(instance:emissions_device_energy_joules:rate5m{{{NODES}}}) > 0) * 3.6e6"
                ),
            ),
            number(
                "Maximum age",
                SECONDS,
                "Age of the oldest carbon intensity in effect whose source reports a time. Annual "
                "means are always old.",
                latest(f"max(emissions_grid_intensity_age_seconds{{{NODES},{COUNTED}}})"),
                nothing="no time reported",
            ),
            number(
                "On a fallback",
                COUNT,
                "Number of nodes whose preferred source does not respond, so that a fallback "
                "source is in use.",
                latest(
                    "count(max by (instance) "
                    f"(emissions_grid_intensity_fallback_step{{{NODES}}}) > 0) or vector(0)"
                ),
                orange_from=1,
            ),
            number(
                "Without intensity",
                COUNT,
                "Number of nodes for which no source has a value: their emission counters do not "
                "increase, and the emissions are backfilled later.",
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
                "Power usage effectiveness by which emissions are multiplied; mean over the nodes.",
                latest(f"avg(emissions_pue_ratio{{{NODES}}})"),
            ),
            number(
                "On estimates",
                COUNT,
                "Number of nodes whose carbon intensity is an estimate or a forecast, as reported "
                "by its source.",
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
                "Carbon intensity in effect, excluding PUE; maximum per zone and kind. Emissions "
                "are calculated with the average, location-based intensity; others are exported in "
                "addition.",
                query(f"max by ({KIND}) ({INTENSITY}{{{NODES}}})", LEGEND),
            ),
            graph(
                "Grams per hour by kind of intensity",
                GRAMS,
                "Hourly emissions of all devices by each exported kind of intensity, averaged over "
                "five minutes. The kinds must not be summed.",
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
                "Sources in effect",
                "Sources of the carbon intensities in effect, and the number of nodes that use "
                "them. Step is the position in the source chain: 0 is the preferred source.",
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
                latest(in_effect("emissions_grid_intensity_age_seconds")),
                latest(in_effect("emissions_grid_intensity_fallback_step")),
                sort_by="Nodes",
            ),
        ],
    ),
    (
        8,
        [
            graph(
                "Maximum age by zone",
                SECONDS,
                "Age of the oldest carbon intensity in effect by zone and kind. It grows while a "
                "source does not respond.",
                query(f"max by ({KIND}) (emissions_grid_intensity_age_seconds{{{NODES}}})", LEGEND),
            ),
            graph(
                "Nodes by fallback step",
                COUNT,
                "0 is the preferred source, 1 the first fallback source.",
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
                "By source and outcome. `ok` is a valid response.",
                query(
                    "sum by (source, outcome) (rate(emissions_grid_intensity_requests_total"
                    f"{{{NODES}}}[$__rate_interval]))",
                    "{{source}}: {{outcome}}",
                ),
            ),
            table(
                "Failing sources",
                "Live sources whose last request failed, and the nodes that use them.",
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
    "Carbon intensity of electricity: value, source and age.",
    [NOW, COURSE],
    [nodes()],
    [alerts('alertname=~"EmissionsIntensity.+"')],
)
