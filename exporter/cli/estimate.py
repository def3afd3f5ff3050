"""`estimate`: grams of work that is planned, or that nobody measured."""

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
        help="Estimate the emissions of work, without measuring.",
        description=f"{__doc__} Asks no daemon and no network.",
    )
    parser.add_argument(
        "--hardware",
        required=True,
        metavar="NAME",
        help="Name of the hardware, 'A100 SXM4', or its power, '350 W'.",
    )
    parser.add_argument("--count", type=int, default=1, metavar="N", help="How many devices.")
    parser.add_argument(
        "--hours", type=_parse_fraction, required=True, metavar="H", help="How long they run."
    )
    parser.add_argument(
        "--region",
        metavar="PLACE",
        help="Where it runs: gcp:us-central1, DE, US-CA or Frankfurt; else the world average.",
    )
    parser.add_argument(
        "--intensity", type=_parse_fraction, metavar="G", help="Grams per kWh, if you know them."
    )
    parser.add_argument(
        "--pue",
        type=_parse_fraction,
        default=Fraction(1),
        metavar="P",
        help="Power usage effectiveness of the building; 1 counts the hardware alone.",
    )
    parser.add_argument(
        "--utilization",
        type=_parse_fraction,
        default=Fraction(1),
        metavar="U",
        help="Mean power over the power limit, 0 to 1.",
    )
    parser.add_argument(
        "--format", choices=(*RENDER, "json"), default="text", help="Format of the output."
    )
    parser.set_defaults(main=main)


def main(options: argparse.Namespace) -> int:
    """Print it."""
    asked = EstimateRequest(options.count, options.hours, options.pue, options.utilization)
    validate(asked)
    made = Estimate(asked, hardware.find_hardware(options.hardware), _find_region(options))
    if options.format == "json":
        print(json.dumps(document.estimate_to_json(made), indent=2))
    else:
        print(RENDER[options.format](document.estimate_document(made)))
    return 0


def _find_region(options: argparse.Namespace) -> region.RegionMatch:
    """The intensity that was given goes before that of the place."""
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
