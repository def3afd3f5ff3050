"""The few large numbers on top of a page."""

from exporter.markup import Markup, tag


def figure(label: str, value: str, *remarks: str, drawing: str = "") -> Markup:
    """A number with its name, and with what is to be known before it is believed."""
    lines = [tag("small", remark) for remark in remarks if remark]
    return tag("div", tag("h2", label), tag("b", value), *lines, drawing)


def figures(*each: Markup) -> Markup:
    """Numbers side by side."""
    return tag("section", *each, class_="figures")
