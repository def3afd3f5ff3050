"""Merging a record into a model card without changing other content."""

import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from exporter.client.atomic_file import replace_file
from exporter.errors import ConfigError
from exporter.report.card import front_matter
from exporter.report.card.amounts import plain_grams
from exporter.report.card.facts import (
    NOTHING_STATED,
    SOURCE_NAME,
    CardFact,
    StatedFacts,
    has_emissions,
    metadata_facts,
    section_facts,
)
from exporter.report.card.front_matter import (
    EMISSIONS_FIELD,
    ModelCard,
    line_of,
    parse_metadata,
    split_card,
)
from exporter.report.inner import include_inner
from exporter.report.quantities import CODECARBON, unconverted_uj


class CardMergeResult(NamedTuple):
    """The merged card, and the previous emissions if they differ."""

    text: str
    before: str


def merge_card(
    text: str,
    record: Mapping[str, Any],
    stated: StatedFacts = NOTHING_STATED,
    *,
    may_overwrite: bool = True,
) -> CardMergeResult:
    """Merge the record's emissions, with those of its inner runs, into a card.

    An empty text gives a new card. Raises ConfigError if the card is malformed, with the line; if
    the record has no emissions, which would only remove existing ones; and, unless
    `may_overwrite`, if the existing emissions have another source.
    """
    record = include_inner(record)
    if not has_emissions(record):
        raise ConfigError(_no_emissions_text(record))
    card = split_card(text)
    line_end = "\r\n" if "\r\n" in text else "\n"
    metadata = parse_metadata(card)
    there = metadata.emissions()
    before = there.get(EMISSIONS_FIELD)
    if not may_overwrite and before and not str(there.get("source", "")).startswith(SOURCE_NAME):
        raise ConfigError(
            f"line {line_of(card, metadata)}: emissions of another source are kept; to replace "
            "them, use: emissions-exporter card write"
        )
    block = front_matter.updated_block(card, metadata_facts(record, stated), line_end)
    body = merge_section(card.body, section_facts(record, stated), line_end)
    is_same = before is None or str(before) == plain_grams(record["carbon_ng"])
    return CardMergeResult(_assemble(card, block, body, line_end), "" if is_same else str(before))


def _no_emissions_text(record: Mapping[str, Any]) -> str:
    what, command = _subject(record)
    shown = f"; `emissions-exporter report {command}` shows" if command else ""
    if not record["energy_uj"]:
        its_record = f"{shown} its record" if shown else ""
        return f"{what} has no emissions: no energy was measured{its_record}"
    if not unconverted_uj(record):
        return f"{what} has emissions of 0 g, which the Hub's filter treats as missing"
    missing = "more than 1 % of its energy has no carbon intensity"
    how_much = f"{shown} how much is missing" if shown else ""
    if record.get("origin") == CODECARBON:
        return (
            f"{what} has no emissions: {missing}, because the imported file has no emissions for "
            f"it; a carbon intensity cannot be added later{how_much}"
        )
    return (
        f"{what} has no emissions: {missing}; set convert.zone or convert.grams_per_kwh of the "
        f"daemon, or write the card when its source answers{how_much}"
    )


def _subject(record: Mapping[str, Any]) -> tuple[str, str]:
    """Return what the record is of, and the arguments of `report` that print it, if known."""
    if (group := record.get("group")) is not None:
        return f"group {group['name']}", f"--group {shlex.quote(group['name'])}"
    run_id = str(record["run_id"])
    if record.get("runs", 1) > 1:
        return f"the sum of {run_id}", ""
    return f"run {run_id}", shlex.quote(run_id)


def _assemble(card: ModelCard, block: str, body: str, line_end: str) -> str:
    if card.closing:
        closing = card.closing if card.closing[0] in "\r\n" else line_end + card.closing
        return card.opening + block + closing + body
    gap = "" if body.startswith(("\n", "\r")) else line_end
    return f"{card.opening}---{line_end}{block}{line_end}---{line_end}{gap}{body}"


MAX_CARD_CHARACTERS = 16 << 20


def read_card(path: str) -> str:
    """Read a card without converting line ends. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read(MAX_CARD_CHARACTERS + 1)
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if len(text) > MAX_CARD_CHARACTERS:
        raise ConfigError(f"{path}: is too large for a model card")
    return text


def update_card_file(
    path: str,
    record: Mapping[str, Any],
    stated: StatedFacts = NOTHING_STATED,
    *,
    may_overwrite: bool = True,
) -> CardMergeResult:
    """Merge a record into the card at `path`, which is created if missing; see `merge_card`.

    The file is replaced atomically. Raises ConfigError with the path and the line.
    """
    text = read_card(path) if os.path.lexists(path) else ""
    try:
        made = merge_card(text, record, stated, may_overwrite=may_overwrite)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if made.text != text:
        _replace(os.path.realpath(path), made.text)
    return made


def _replace(path: str, text: str) -> None:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode) if os.path.exists(path) else None
        replace_file(path, text, mode)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None


TITLE = "Environmental Impact"
BEGIN_MARKER = "<!-- emissions-exporter: what stands from here to the end mark is replaced -->"
END_MARKER = "<!-- emissions-exporter: end -->"
PLACEHOLDER = "[More Information Needed]"
BOILERPLATE = (
    "<!-- Total emissions (in grams of CO2eq)",
    "Carbon emissions can be estimated using the [Machine Learning Impact calculator]",
)
"""Beginnings of lines in the Hub's template that the section replaces."""
HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
ITEM = re.compile(r" {0,3}(?:[-*+>]|\d+[.)])[ \t]")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
BULLET = re.compile(r"\s*[-*+][ \t]+\*\*(.+?):?\*\*:?[ \t]*(.*?)[ \t]*$")


class Heading(NamedTuple):
    """A heading, and the first line after it."""

    line: int
    level: int
    title: str
    inside: int


def headings(lines: Sequence[str]) -> Iterator[Heading]:
    """Yield the headings of a Markdown text, except in code and comments."""
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


def section_extent(lines: Sequence[str]) -> tuple[int, int] | None:
    """Return the range of lines of the section, without its heading; the end is exclusive."""
    found = list(headings(lines))
    for n, heading in enumerate(found):
        if re.sub(r"[^a-z ]", "", heading.title.lower()).strip().startswith(TITLE.lower()):
            ends = (each.line for each in found[n + 1 :] if each.level <= heading.level)
            return heading.inside, next(ends, len(lines))
    return None


def merge_section(body: str, facts: Mapping[str, CardFact], line_end: str) -> str:
    """Return the body with the facts in the section, which is appended if missing.

    Replaces the lines between the markers, lines of the template, and lines with a name that is
    stated; all others stay. Derived facts do not replace stated ones.
    """
    lines = body.splitlines(keepends=True)
    found = section_extent(lines)
    if found is None:
        gap = line_end if body.endswith(("\n", "\r")) else line_end * 2
        is_empty = not body.strip("\r\n")
        head = f"{'' if is_empty else gap}## {TITLE}{line_end}{line_end}"
        return body + head + _section_block(facts, line_end)
    first, last = found
    theirs = _without_generated(lines[first:last])
    written = {
        bullet[1].strip().lower(): bullet[2]
        for line in theirs
        if (bullet := BULLET.match(line.rstrip("\r\n")))
    }
    stated = {
        name: fact
        for name, fact in facts.items()
        if written.get(name.lower()) == PLACEHOLDER or fact.may_replace(written.get(name.lower()))
    }
    rest = "".join(_kept_lines(theirs, stated)).strip("\r\n")
    parts = [line_end, _section_block(stated, line_end)]
    parts += [line_end, rest, line_end] if rest.strip() else []
    parts += [line_end] if last < len(lines) else []
    before = "".join(lines[:first])
    before += "" if before.endswith(("\n", "\r")) else line_end
    return before + "".join(parts) + "".join(lines[last:])


def _section_block(facts: Mapping[str, CardFact], line_end: str) -> str:
    bullets = [f"- **{name}:** {_escaped(fact.text)}" for name, fact in facts.items()]
    return "".join(line + line_end for line in (BEGIN_MARKER, *bullets, END_MARKER))


def _escaped(text: str) -> str:
    """Escape markup, and the end of the HTML comment."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", text)


def _without_generated(lines: Sequence[str]) -> list[str]:
    """Return the lines outside the markers; a marker without its counterpart is removed."""
    texts = [line.strip() for line in lines]
    if BEGIN_MARKER in texts and END_MARKER in texts[texts.index(BEGIN_MARKER) :]:
        start = texts.index(BEGIN_MARKER)
        stop = texts.index(END_MARKER, start)
        return [*lines[:start], *lines[stop + 1 :]]
    return [
        line
        for line, text in zip(lines, texts, strict=True)
        if text not in (BEGIN_MARKER, END_MARKER)
    ]


def _kept_lines(lines: Sequence[str], stated: Mapping[str, CardFact]) -> Iterator[str]:
    names = {name.lower() for name in stated}
    for line in lines:
        bullet = BULLET.match(line.rstrip("\r\n"))
        if not (bullet and bullet[1].strip().lower() in names) and not line.startswith(BOILERPLATE):
            yield line


def write_model_card(record: Mapping[str, Any]) -> str:
    """Return a new card with the record only; without metadata if no emissions are known."""
    record = include_inner(record)
    if not has_emissions(record):
        return merge_section("", section_facts(record), "\n").rstrip("\n")
    return merge_card("", record).text.rstrip("\n")
