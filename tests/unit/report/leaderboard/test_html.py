"""The page: one file, whole, whose texts are texts."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.report.leaderboard.board import board
from exporter.report.leaderboard.entry import entries
from exporter.report.leaderboard.html.labels import Box, Point, placed
from exporter.report.leaderboard.html.page import page
from exporter.report.leaderboard.html.scale import scale
from exporter.report.leaderboard.ranking import question
from tests.unit.report.leaderboard.making import record

HOSTILE = "</title></style><script>alert(1)</script>\u202e\"'&"
VOID = {"meta"}


def made(*records):
    runs = entries(records)
    return page(board(runs, question(runs)), 1_000.0, "1.2")


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


def drawings(text, class_):
    found = re.findall(rf'<svg[^>]*class="{class_}".*?</svg>', text, re.DOTALL)
    return [ET.fromstring(each) for each in found]


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
    assert not attributes & {"src", "href", "srcset", "action"}
    assert "url(" not in text
    assert "@import" not in text


def test_every_run_with_a_result_and_grams_is_a_bubble_with_a_title():
    (wide,) = drawings(made(*SEVERAL), "wide")
    titles = [circle.find("title").text for circle in wide.iter("circle")]
    assert len(titles) == 4
    assert any(title.startswith("good: accuracy 0.9000\n50.0 g CO2eq, 139 Wh") for title in titles)


def test_the_area_of_a_bubble_is_its_size():
    (wide,) = drawings(made(*SEVERAL), "wide")
    radii = {c.find("title").text.split(":")[0]: float(c.get("r")) for c in wide.iter("circle")}
    assert radii["good"] == pytest.approx(2 * radii["cheap"])


def test_the_line_goes_over_the_pareto_runs():
    (wide,) = drawings(made(*SEVERAL), "wide")
    assert len(wide.find("polyline").get("points").split()) == 3
    best = [c for c in wide.iter("circle") if "best" in c.get("class").split()]
    assert len(best) == 2


def test_results_of_one_run_are_not_drawn():
    assert drawings(made(SEVERAL[0]), "wide") == []


def test_a_bar_has_an_active_and_an_idle_part():
    first = drawings(made(*SEVERAL[:2]), "bar")[0]
    widths = [rect.get("width") for rect in first.iter("rect")]
    assert widths == ["1.5%", "0.5%"]
    assert first.find("title").text == "cheap: 1.00 g CO2eq, 25 % held idle"


def named(run_id, name, grams, accuracy):
    return {**run(run_id, grams, accuracy), "name": name}


def test_drawings_label_runs_by_name_and_add_the_id_where_a_name_is_not_unique():
    text = made(
        named("1f", "warm up", 1.0, 0.5),
        named("2f", "again", 2.0, 0.6),
        named("3f", "again", 3, 0.7),
    )
    labels = re.findall(r'<li><span class="name[^"]*">(.*?)</span>', text)
    assert labels == ["warm up", "again (2f)", "again (3f)"]
    (wide,) = drawings(text, "wide")
    titles = [circle.find("title").text.split(":")[0] for circle in wide.iter("circle")]
    assert sorted(titles) == ["again (2f)", "again (3f)", "warm up"]


def test_bars_have_one_unit():
    text = made(run("small", 0.5, 0.5), run("large", 5_000.0, 0.6))
    assert re.findall(r'<span class="n">(.*?)</span>', text) == [
        "<0.001 kg".replace("<", "&lt;"),
        "5.00 kg",
    ]


def test_grams_per_units_have_bars_where_something_was_counted():
    assert "CO2eq per 10\u202f000 requests" in made(*SEVERAL)
    assert "requests" not in made(SEVERAL[1])


def test_no_runs_is_a_page_that_says_what_makes_one():
    assert "No runs to compare." in made()


SIDES = st.floats(0, 900)
BUBBLES = st.lists(
    st.builds(Point, SIDES, st.floats(0, 400), st.floats(3, 30), st.text(max_size=30)), max_size=25
)


@given(BUBBLES)
def test_names_cover_neither_each_other_nor_bubbles_and_stay_inside(points):
    frame = Box(0, 0, 900, 400)
    boxes = placed(points, frame)
    found = [box for box in boxes if box is not None]
    assert len(boxes) == len(points)
    for index, box in enumerate(found):
        assert box.within(frame)
        assert not any(box.meets(other) for other in found[index + 1 :])
        assert not any(box.meets(point.box) for point in points)


def test_a_name_alone_stands_at_the_right():
    (box,) = placed([Point(100, 100, 10, "bert")], Box(0, 0, 900, 400))
    assert box.left > 110
    assert box.top < 100 < box.bottom


VALUES = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=20)


@given(VALUES, st.booleans())
def test_an_axis_has_all_values_inside_and_its_ticks_in_order(values, may_be_log):
    axis = scale(values, 0.05, may_be_log=may_be_log)
    assert all(0 <= axis.place(value) <= 1 for value in values)
    ticks = axis.ticks(8)
    assert ticks == sorted(ticks)
    assert len(ticks) <= 12
    assert all(-1e-9 <= axis.place(tick) <= 1 + 1e-9 for tick in ticks)


@pytest.mark.parametrize(
    ("values", "is_log"), [([1, 9], False), ([1, 11], True), ([0, 100], False), ([-5, 100], False)]
)
def test_an_axis_goes_by_decades_where_values_above_zero_span_more_than_one(values, is_log):
    assert scale(values, 0.05, may_be_log=True).is_log is is_log


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-300, 5.0])
def test_equal_values_have_an_axis_too(value):
    assert scale([value, value], 0.05, may_be_log=True).place(value) == pytest.approx(0.5)


def test_ticks_are_round():
    assert scale([0.5, 0.9], 0.05).ticks(6) == [0.5, 0.6, 0.7, 0.8, 0.9]
    assert scale([3, 700], 0.05, may_be_log=True).ticks(4) == [10, 100]
