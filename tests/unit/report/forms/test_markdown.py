"""Markdown: texts stay texts."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import formatting
from exporter.report.forms import markdown
from tests.unit.report.forms.making import hostile, record

BEGIN = re.compile(r"(#+ |\||- )?")


def unescaped(text):
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


@given(st.text() | st.text("\\`*_{}[]<>|~&$#:/w.-+=1 a"))
def test_a_text_reads_as_it_is_whatever_is_in_it(text):
    escaped = markdown.escape(text)
    assert unescaped(escaped) == formatting.printable(text).strip()
    bare = re.sub(r"\\.", "", escaped)
    assert not set(bare) & set("`*_{}[]<>|~&$#\n")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("[x](http://y)", r"\[x\](http\://y)"),
        ("www.example", r"www\.example"),
        ("- a", r"\- a"),
        ("1. a", r"1\. a"),
        ("---", r"\---"),
        ("0.5 kWh", "0.5 kWh"),
        ("a | b", r"a \| b"),
        ("<b>", r"\<b\>"),
    ],
)
def test_what_begins_markup_is_escaped(text, written):
    assert markdown.escape(text) == written


def test_a_hostile_record_has_the_lines_and_columns_of_any_other():
    plain, attacked = (markdown.write(each).splitlines() for each in (record(), hostile()))
    assert len(plain) == len(attacked)
    for line, other in zip(plain, attacked, strict=True):
        assert BEGIN.match(line)[0] == BEGIN.match(other)[0]
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", other))


def test_amounts_stand_at_the_right():
    assert "| --- | ---: | ---: | ---: | ---: | --- |" in markdown.write(record())
