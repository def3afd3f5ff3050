"""LaTeX: texts stay texts, and every engine takes it."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import formatting
from exporter.report.appendix import appendix
from exporter.report.forms import latex
from exporter.report.group import group_record
from tests.unit.report.forms.making import HOSTILE, KWH_UJ, USE, hostile, record

WORDS = {written: character for character, written in latex.LATEX_ESCAPES.items()}
MARKS = {command: mark for mark, command in latex.ACCENTS.items()}
TOKEN = re.compile(
    r"(?P<named>\{\[\}U\+(?P<code>[0-9A-F]{4,6})\{\]\})"
    r"|(?P<accent>\{\\(?P<command>.)\{(?P<letter>\\?[A-Za-z])\}\})"
    r"|(?P<word>" + "|".join(re.escape(word) for word in sorted(WORDS, key=len, reverse=True)) + ")"
    r"|(?P<apart>\{\})"
    r"|(?P<plain>[A-Za-z0-9 !'()+,\-./:;=?@])"
)
"""All that an escaped text may be made of; nothing of it begins a command of its own."""


def printed(text):
    """What LaTeX prints of an escaped text; None where it has anything but tokens."""
    import unicodedata

    shown, at = "", 0
    while at < len(text):
        token = TOKEN.match(text, at)
        if token is None:
            return None
        at = token.end()
        if token["named"]:
            shown += chr(int(token["code"], 16))
        elif token["accent"]:
            letter = token["letter"].removeprefix("\\")
            shown += unicodedata.normalize("NFC", letter + MARKS[token["command"]])
        elif token["word"]:
            shown += WORDS[token["word"]]
        else:
            shown += token["plain"] or ""
    return shown


@given(st.text() | st.text("\\{}[]$&#_%^~<>|*\"`'-,{U+\u00fc\u202f\u4e2d i"))
def test_a_text_is_printed_as_it_is_whatever_is_in_it(text):
    escaped = latex.escape(text)
    assert escaped.isascii()
    assert printed(escaped) == formatting.printable(text)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("100 % of $x_1", r"100 \% of \$x\_1"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("Z\u00fcrich", r"Z{\"{u}}rich"),
        ("na\u00efve", r"na{\"{\i}}ve"),
        ("\u4e2d", "{[}U+4E2D{]}"),
        ("--pue ''", "-{}-pue '{}'"),
        ("[x]*", "{[}x{]}{*}"),
    ],
)
def test_what_has_a_meaning_is_spelled_out(text, written):
    assert latex.escape(text) == written


def test_braces_and_environments_of_a_hostile_record_are_balanced():
    text = latex.write(hostile())
    assert text.isascii()
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    begun = re.findall(r"(?<!\\)\\begin\{(\w+)\}", text)
    assert sorted(begun) == sorted(re.findall(r"(?<!\\)\\end\{(\w+)\}", text))
    assert "\\input{" not in text.split("\n", 2)[2]


LONG_NAME = "20261129-111615-28074-sweep-of-learning-rates-with-warm-up-and-with-a-long-name"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="requires pdflatex")
@pytest.mark.parametrize(
    "document",
    [
        record(LONG_NAME),
        record(energy_uj=123_456 * KWH_UJ, carbon_ng=12_345_678 * 10**9),
        group_record([record("a"), record("b", energy_uj=2 * KWH_UJ)], "sweep"),
        record(intensity=[{**USE, "zone": "gcp:northamerica-northeast1", "estimated": True}]),
    ],
)
def test_nothing_is_wider_than_the_page(tmp_path, document):
    text = f"\\documentclass{{article}}\\begin{{document}}{latex.write(document)}\\end{{document}}"
    (tmp_path / "made.tex").write_text(text)
    command = ["pdflatex", "-interaction=batchmode", "made.tex"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert "Overfull" not in (tmp_path / "made.log").read_text(errors="replace")


def test_every_row_of_a_table_has_all_its_cells():
    lines = latex.write(hostile()).splitlines()
    cells = {
        len(re.findall(r"(?<!\\)&", line)) for line in lines if line.endswith("\\tabularnewline")
    }
    assert cells == {1, 5}


def test_a_percent_sign_ends_no_line():
    lines = latex.write(record()).splitlines()[2:]
    assert not any(re.search(r"(?<!\\)%", line) for line in lines)


def test_all_of_the_document_is_in_it():
    document = appendix(record())
    text = latex.render(document)
    assert latex.escape(document.summary) in text
    for section in document.sections:
        assert f"\\subsubsection*{{{section.title}}}" in text
        for name, said in section.facts:
            assert f"{latex.escape(name)} & \\raggedright {latex.escape(said)}" in text


def test_the_hostile_text_is_printed_everywhere_as_it_is():
    assert latex.escape(HOSTILE) in latex.write(hostile())
