"""`estimate`: estimate the carbon emissions of planned or unmeasured work."""

import argparse
import json
from collections.abc import Callable, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from exporter.estimate import document, hardware, region
from exporter.estimate.estimate import Estimate, EstimateRequest, parse_decimal, validate
from exporter.report.document import Document
from exporter.report.forms import html, latex, markdown, text

RENDER: Mapping[str, Callable[[Document], str]] = MappingProxyType(
    {
        "text": text.render_document,
        "markdown": markdown.render,
        "latex": latex.render,
        "html": html.render,
    }
)


def add(subparsers: Any) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "estimate",
        help="Estimate the carbon emissions of work that was not measured.",
        description=f"{__doc__} Requires neither a daemon nor the network.",
    )
    parser.add_argument(
        "--hardware",
        required=True,
        metavar="NAME",
        help="Name of the hardware ('A100 SXM4') or its power ('350 W', '1.2 kW').",
    )
    parser.add_argument("--count", type=int, default=1, metavar="N", help="Number of devices.")
    parser.add_argument(
        "--hours", type=_parse_fraction, required=True, metavar="H", help="Running time in hours."
    )
    parser.add_argument(
        "--region",
        metavar="PLACE",
        help="Region, zone or city: gcp:us-central1, DE, US-CA, Frankfurt (default: the world "
        "average).",
    )
    parser.add_argument(
        "--intensity",
        type=_parse_fraction,
        metavar="G",
        help="Carbon intensity in g/kWh; takes precedence over the one of --region.",
    )
    parser.add_argument(
        "--pue",
        type=_parse_fraction,
        default=Fraction(1),
        metavar="P",
        help="Power usage effectiveness of the facility; 1 counts the hardware alone.",
    )
    parser.add_argument(
        "--utilization",
        type=_parse_fraction,
        default=Fraction(1),
        metavar="U",
        help="Mean power as a fraction of the power limit, 0 to 1.",
    )
    parser.add_argument(
        "--format", choices=(*RENDER, "json"), default="text", help="Format of the output."
    )
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print the estimate."""
    request = EstimateRequest(options.count, options.hours, options.pue, options.utilization)
    validate(request)
    estimate = Estimate(request, hardware.find_hardware(options.hardware), _find_region(options))
    if options.format == "json":
        print(json.dumps(document.estimate_to_json(estimate), indent=2))
    else:
        has_advice = options.format == "text"  # the other formats are for papers
        print(RENDER[options.format](document.estimate_document(estimate, has_advice=has_advice)))
    return 0


def _find_region(options: argparse.Namespace) -> region.RegionMatch:
    """Return the region; --intensity takes precedence over the intensity of --region."""
    if options.intensity is None:
        return (
            region.world_average() if options.region is None else region.find_region(options.region)
        )
    return region.custom_region(options.intensity, options.region or "")


def _parse_fraction(text: str) -> Fraction:
    try:
        return parse_decimal(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
