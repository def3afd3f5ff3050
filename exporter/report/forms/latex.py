r"""Record as an appendix in LaTeX for `\input`: plain ASCII that requires no package."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from exporter import formatting
from exporter.report.appendix import appendix
from exporter.report.document import Document, Section, Table

HEAD = (
    "% Include with \\input{...}. Plain ASCII; requires no package. In two-column papers, use\n"
    "% \\onecolumn: the tables have the width of a page."
)
LATEX_ESCAPES: Mapping[str, str] = MappingProxyType(
    {
        **{character: f"\\{character}" for character in "{}$&#_%"},
        **{character: f"{{{character}}}" for character in "[]*"},
        "\\": "\\textbackslash{}",
        "^": "\\textasciicircum{}",
        "~": "\\textasciitilde{}",
        "<": "\\textless{}",
        ">": "\\textgreater{}",
        "|": "\\textbar{}",
        '"': "{\\char34}",
        "`": "{\\char96}",
        formatting.NARROW_SPACE: "\\,",
        formatting.UNKNOWN: "{--}",
        "\u2014": "{---}",
        "\u2018": "{`}",
        "\u2019": "{'}",
        "\u201c": "{``}",
        "\u201d": "{''}",
        "\u00a0": "{~}",
        "\u00d7": "$\\times$",
        "\u00b1": "$\\pm$",
        "\u2082": "$_2$",
        "\u00df": "\\ss{}",
        "\u00e6": "\\ae{}",
        "\u00c6": "\\AE{}",
        "\u0153": "\\oe{}",
        "\u00f8": "\\o{}",
        "\u00d8": "\\O{}",
        "\u0142": "\\l{}",
        "\u0141": "\\L{}",
    }
)
"""Characters with a meaning in LaTeX, and characters with a command of their own."""
ACCENTS: Mapping[str, str] = MappingProxyType(
    dict(
        zip(
            "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327",
            "`'^~=u.\"rHvc",
            strict=True,
        )
    )
)
"""Combining marks, and the commands for these accents."""
DOTLESS = {"i": "\\i", "j": "\\j"}
WORD = re.compile(r"[^\s-]+-?|-")
"""Text without a place where a line can break."""
HYPHENS = re.compile(r"([-',])(?=\1)")
"""Characters that form a dash or a quotation mark when doubled."""
WHOLE_WIDTH = 0.88
"""Fraction of the line width of facts; the rest is space between columns."""
NAME_WIDTH = 0.2
LINE_LETTERS = 78
"""Letters of a table on a line, at \\footnotesize in the class article."""
GAP_LETTERS = 3
"""Width of the space between two columns, in letters."""
NARROWEST, WIDEST = 10, 40
"""Bounds of the length, in letters, by which text columns share the width left by amounts."""
LEAST_SHARE = 0.1
"""Smallest width of a text column as a fraction of the line."""


def write(record: Mapping[str, Any]) -> str:
    """Render the appendix of a record."""
    return render(appendix(record))


def render(document: Document) -> str:
    """Render a document as an unnumbered subsection with unnumbered subsubsections."""
    lines = [HEAD, f"\\subsection*{{\\raggedright {escape(document.title)}}}"]
    lines += ["\\begin{sloppypar}", escape(document.summary), "\\end{sloppypar}"]
    for section in document.sections:
        lines += ["", f"\\subsubsection*{{{escape(section.title)}}}", *_section(section)]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Escape a text to one line of ASCII.

    A character that plain LaTeX cannot print is written as its code point: `[U+4E2D]`.
    """
    separated = HYPHENS.sub("\\1\0", formatting.printable(text))
    return "".join(map(_character, separated))


def _character(character: str) -> str:
    if character == "\0":
        return "{}"
    if character in LATEX_ESCAPES:
        return LATEX_ESCAPES[character]
    if character.isascii():
        return character
    decomposed = unicodedata.normalize("NFD", character)
    letter, marks = decomposed[0], decomposed[1:]
    if marks in ACCENTS and letter.isalpha() and letter.isascii():
        return f"{{\\{ACCENTS[marks]}{{{DOTLESS.get(letter, letter)}}}}}"
    return f"{{[}}U+{ord(character):04X}{{]}}"


def _section(section: Section) -> Iterator[str]:
    if section.facts:
        widths = (NAME_WIDTH, WHOLE_WIDTH - NAME_WIDTH)
        yield f"\\noindent\\begin{{tabular}}{{@{{}}{''.join(map(_column, widths))}@{{}}}}"
        yield from (_row(fact, frozenset()) for fact in section.facts)
        yield "\\end{tabular}"
    if section.table:
        yield from _table(section.table)
    if section.notes:
        yield "\\begin{itemize}"
        yield from (f"\\item {{}}{escape(note)}" for note in section.notes)
        yield "\\end{itemize}"


def _table(table: Table) -> Iterator[str]:
    columns = "".join(map(_column, _widths(table)))
    yield "\\begin{center}\\footnotesize\\setlength{\\tabcolsep}{4pt}"
    yield f"\\begin{{tabular}}{{@{{}}{columns}@{{}}}}"
    yield "\\hline"
    yield _row(table.head, table.numeric_columns)
    yield "\\hline"
    yield from (_row(row, table.numeric_columns) for row in table.rows)
    yield "\\hline"
    yield "\\end{tabular}\\end{center}"


def _widths(table: Table) -> list[float]:
    """Return the width of each column as a fraction of the line; 0 for amounts (natural width).

    Text columns share what amounts leave, by their lengths. None is narrower than its longest word
    if there is enough space.
    """
    columns = list(zip(table.head, *table.rows, strict=True))
    texts = {n: cells for n, cells in enumerate(columns) if n not in table.numeric_columns}
    amounts = sum(max(map(len, columns[n])) for n in table.numeric_columns)
    left = LINE_LETTERS - amounts - GAP_LETTERS * (len(columns) - 1)
    least = {
        n: max(len(word) for cell in cells for word in WORD.findall(cell))
        for n, cells in texts.items()
    }
    wanted = {n: min(WIDEST, max(NARROWEST, *map(len, cells))) for n, cells in texts.items()}
    spare = max(0, left - sum(least.values()))
    beyond = {n: max(0, wanted[n] - least[n]) for n in texts}
    whole = sum(beyond.values()) or 1
    return [
        max(LEAST_SHARE, (least[n] + spare * beyond[n] / whole) / LINE_LETTERS)
        if n in texts
        else 0.0
        for n in range(len(columns))
    ]


def _column(width: float) -> str:
    return f"p{{{width:.2f}\\linewidth}}" if width else "r"


def _row(cells: Iterable[str], amounts: Collection[int]) -> str:
    """Return a row; texts are ragged right, so that narrow columns are not stretched."""
    escaped = (
        escape(cell) if column in amounts else f"\\raggedright {escape(cell)}"
        for column, cell in enumerate(cells)
    )
    return f"{' & '.join(escaped)} \\tabularnewline"
