"""The section "Environmental Impact" of a card, replaced where it stands."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from exporter.report.card.facts import Fact

TITLE = "Environmental Impact"
BEGIN = "<!-- emissions-exporter: what stands from here to the end mark is replaced -->"
END = "<!-- emissions-exporter: end -->"
PLACEHOLDER = "[More Information Needed]"
BOILERPLATE = (
    "<!-- Total emissions (in grams of CO2eq)",
    "Carbon emissions can be estimated using the [Machine Learning Impact calculator]",
)
"""How the lines of the Hub's template begin that ask for what we say."""
HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
ITEM = re.compile(r" {0,3}(?:[-*+>]|\d+[.)])[ \t]")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
BULLET = re.compile(r"\s*[-*+][ \t]+\*\*(.+?):?\*\*:?[ \t]*(.*?)[ \t]*$")


class Heading(NamedTuple):
    """A heading, and where the lines under it begin."""

    line: int
    level: int
    title: str
    inside: int


def headings(lines: Sequence[str]) -> Iterator[Heading]:
    """Those of a text in Markdown; not those in code or in comments."""
    fence, is_comment = "", False
    for n, line in enumerate(lines):
        found = FENCE.match(line)
        if fence:
            if found and found[1].startswith(fence) and not line.strip(" \t`~\r\n"):
                fence = ""
        elif is_comment or line.lstrip().startswith("<!--"):
            is_comment = "-->" not in line
        elif found:
            fence = found[1]
        elif heading := HEADING.match(line.rstrip("\r\n")):
            yield Heading(n, len(heading[1]), heading[2] or "", n + 1)
        elif n + 1 < len(lines) and line.strip() and not ITEM.match(line):
            under = UNDERLINE.match(lines[n + 1].rstrip("\r\n"))
            if under:
                yield Heading(n, 1 if under[1][0] == "=" else 2, line.strip(), n + 2)


def extent(lines: Sequence[str]) -> tuple[int, int] | None:
    """The first and the last line, not included, of what stands under the heading."""
    found = list(headings(lines))
    for n, heading in enumerate(found):
        if re.sub(r"[^a-z ]", "", heading.title.lower()).strip().startswith(TITLE.lower()):
            ends = (each.line for each in found[n + 1 :] if each.level <= heading.level)
            return heading.inside, next(ends, len(lines))
    return None


def merged(body: str, facts: Mapping[str, Fact], line_end: str) -> str:
    """The body with the facts in its section, which is made at its end where there is none.

    Lines between our marks go, those of the template, and those with a name that we state; all
    else stays. What was only derived gives way to what a person wrote.
    """
    lines = body.splitlines(keepends=True)
    found = extent(lines)
    if found is None:
        gap = "" if not body.strip() else line_end if body.endswith(("\n", "\r")) else line_end * 2
        head = f"{gap}## {TITLE}{line_end}{line_end}"
        return body + head + _block(facts, line_end)
    first, last = found
    theirs = _without_ours(lines[first:last])
    written = {
        bullet[1].strip().lower(): bullet[2]
        for line in theirs
        if (bullet := BULLET.match(line.rstrip("\r\n")))
    }
    stated = {
        name: fact
        for name, fact in facts.items()
        if written.get(name.lower()) == PLACEHOLDER or fact.replaces(written.get(name.lower()))
    }
    rest = "".join(_kept(theirs, stated)).strip("\r\n")
    parts = [line_end, _block(stated, line_end)]
    parts += [line_end, rest, line_end] if rest.strip() else []
    parts += [line_end] if last < len(lines) else []
    before = "".join(lines[:first])
    before += "" if before.endswith(("\n", "\r")) else line_end
    return before + "".join(parts) + "".join(lines[last:])


def _block(facts: Mapping[str, Fact], line_end: str) -> str:
    bullets = [f"- **{name}:** {_escaped(fact.text)}" for name, fact in facts.items()]
    return "".join(line + line_end for line in (BEGIN, *bullets, END))


def _escaped(text: str) -> str:
    """A text that neither begins markup nor ends our comment."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def _without_ours(lines: Sequence[str]) -> list[str]:
    """What is not between our marks; a mark whose other half is gone is only a line of ours."""
    texts = [line.strip() for line in lines]
    if BEGIN in texts and END in texts[texts.index(BEGIN) :]:
        start = texts.index(BEGIN)
        stop = texts.index(END, start)
        return [*lines[:start], *lines[stop + 1 :]]
    return [line for line, text in zip(lines, texts, strict=True) if text not in (BEGIN, END)]


def _kept(lines: Sequence[str], stated: Mapping[str, Fact]) -> Iterator[str]:
    names = {name.lower() for name in stated}
    for line in lines:
        bullet = BULLET.match(line.rstrip("\r\n"))
        if not (bullet and bullet[1].strip().lower() in names) and not line.startswith(BOILERPLATE):
            yield line
