"""How the browser of the tests is started, and what its pages are asked."""

import re

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TEXTS = """
() => {
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const colour = getComputedStyle(element).backgroundColor;
      if (colour !== "rgba(0, 0, 0, 0)") return colour;
    }
  };
  const own = (element) => [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
  return [...document.body.querySelectorAll("*:not(script)")]
    .filter((element) => own(element) && element.checkVisibility())
    .map((element) => [element.textContent, getComputedStyle(element).color, behind(element)]);
}
"""
"""Every piece of text, its colour, and the colour behind it."""
READABLE = 4.5
"""Least contrast of text, WCAG 2.2, success criterion 1.4.3."""


def faint(texts: list[tuple[str, str, str]]) -> list[tuple[str, str]]:
    """Those of the texts that do not stand out from what is behind them."""
    return [(text, one) for text, one, other in texts if contrast(one, other) < READABLE]


def contrast(one: str, other: str) -> float:
    """Of two colours, by WCAG 2.2."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Relative luminance of an `rgb(...)`, by WCAG 2.2."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
