"""Escaping of HTML."""

import html

from hypothesis import given
from hypothesis import strategies as st

from exporter.html import Markup, concatenate, escape, tag


def test_texts_are_escaped():
    assert tag("b", "<i>&") == "<b>&lt;i&gt;&amp;</b>"


def test_elements_are_not_escaped_again():
    assert tag("p", tag("b", "x")) == "<p><b>x</b></p>"


def test_attributes_are_escaped():
    assert tag("a", href='"><script>') == '<a href="&quot;&gt;&lt;script&gt;"></a>'


def test_names_of_attributes_are_those_of_html():
    assert tag("p", class_="x", data_interval_ms="1") == '<p class="x" data-interval-ms="1"></p>'


def test_an_empty_attribute_is_left_out():
    assert tag("p", class_="") == "<p></p>"


def test_texts_and_elements_are_concatenated():
    assert concatenate("<", Markup("<br>")) == "&lt;<br>"


def test_numbers_in_attributes_are_rounded():
    assert tag("i", x=1.0, y=0.256, z=2) == '<i x="1" y="0.26" z="2"></i>'


@given(st.text())
def test_texts_are_escaped_as_the_standard_library_does(text):
    shown = escape(text)
    assert html.escape(html.unescape(shown)) == shown
    if text.isprintable():
        assert shown == html.escape(text)


def test_escaping_keeps_lines_and_removes_bidirectional_controls():
    assert "\u202e" not in escape("a\n\u202eb")
    assert escape("a\nb") == "a\nb"
