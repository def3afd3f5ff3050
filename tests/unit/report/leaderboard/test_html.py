"""The HTML page of a leaderboard: one file that loads nothing, with every text escaped."""

from html.parser import HTMLParser

import pytest

from exporter.report.leaderboard.board import make_leaderboard
from exporter.report.leaderboard.entry import make_entries
from exporter.report.leaderboard.page import render_page
from exporter.report.leaderboard.plots import make_plots
from exporter.report.leaderboard.ranking import choose_criteria
from tests.unit.report.leaderboard.making import record

pytestmark = [pytest.mark.real, pytest.mark.beside]
HOSTILE = "</title></style><script>alert(1)</script>\u202e\"'&"
VOID = {"meta", "img", "source"}


def made(*records):
    runs = make_entries(records)
    whole = make_leaderboard(runs, choose_criteria(runs))
    return render_page(whole, make_plots(whole), 1_000.0, "1.2")


def run(name, grams, accuracy, **more):
    logged = {"accuracy": accuracy, **more.pop("logged", {})}
    return record(name, grams, logged=logged, **more)


SEVERAL = (
    run("cheap", 1.0, 0.5, held=0.25, units={"requests": 1_000.0}, logged={"params": 1e6}),
    run("good", 50.0, 0.9, logged={"params": 4e6}),
    run("beaten", 40.0, 0.4),
    run(HOSTILE, 60.0, 0.8, ended=None),
)


class Tags(HTMLParser):
    """The tags of a page, and whether each is closed in its turn."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("records", [(), SEVERAL[:1], SEVERAL])
def test_a_page_is_whole(records):
    assert Tags(made(*records)).open == []


def test_a_name_makes_no_element_and_turns_no_writing():
    found = Tags(made(*SEVERAL))
    assert "script" not in {tag for tag, _ in found.tags}
    assert "\u202e" not in made(*SEVERAL)


def test_nothing_is_asked_of_anybody():
    text = made(*SEVERAL)
    assert "default-src 'none'" in text.replace("&#x27;", "'")
    attributes = {name for _, each in Tags(text).tags for name in each}
    assert not attributes & {"href", "action"}
    sources = [each.get("src") or each.get("srcset") or "" for _, each in Tags(text).tags]
    assert all(source.startswith("data:image/svg+xml;base64,") for source in sources if source)
    assert "url(" not in text
    assert "@import" not in text


def test_grams_per_units_have_bars_where_something_was_counted():
    assert "CO2eq per 10\u202f000 requests" in made(*SEVERAL)
    assert "requests" not in made(SEVERAL[1])


def test_no_runs_is_a_page_that_says_what_makes_one():
    assert "No runs to compare." in made()


def test_a_plot_has_a_picture_for_light_dark_wide_and_narrow_windows():
    found = Tags(made(*SEVERAL)).tags
    assert sum(tag == "img" for tag, _ in found) == 3
    assert [each["media"] for tag, each in found if tag == "source"][:3] == [
        "(max-width: 43.99rem) and (prefers-color-scheme: dark)",
        "(max-width: 43.99rem)",
        "(prefers-color-scheme: dark)",
    ]


def test_a_page_without_plots_has_the_ranking():
    runs = make_entries(SEVERAL)
    text = render_page(make_leaderboard(runs, choose_criteria(runs)), [], 1_000.0, "1.2")
    assert "<img" not in text
    assert "Ranking" in text
