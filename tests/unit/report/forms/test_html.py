"""HTML: one file that asks nobody for anything, in which texts stay texts."""

import re
from html.parser import HTMLParser

from exporter.report.appendix import appendix
from exporter.report.forms import html
from tests.unit.report.forms.making import hostile, record


class Reader(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


def test_a_hostile_record_has_the_elements_of_any_other():
    assert Reader(html.write(hostile())).elements == Reader(html.write(record())).elements


def test_it_may_load_nothing_and_run_nothing():
    elements = Reader(html.write(record())).elements
    policy = next(a["content"] for _, a in elements if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    assert not {"script", "link", "img", "a"} & {name for name, _ in elements}


def test_all_of_the_document_is_in_it():
    document = appendix(record())
    text = Reader(html.render(document)).text
    assert document.summary in text
    for section in document.sections:
        for name, said in section.facts:
            assert name in text
            assert said in text


def test_it_says_how_it_is_encoded_and_in_which_language():
    text = html.write(record())
    assert text.startswith('<!doctype html>\n<html lang="en">')
    assert '<meta charset="utf-8">' in text


def test_each_cell_carries_its_head_for_screens_that_are_too_narrow_for_a_row():
    text = html.write(record())
    (head,) = re.findall(r"<tr>(<th[^>]*>component.*?)</tr>", text)
    heads = re.findall(r"<th[^>]*>(.*?)</th>", head)
    row = re.findall(r"<tr><td[^>]*>processors.*?</tr>", text)[0]
    assert re.findall(r'data-head="(.*?)"', row) == heads
