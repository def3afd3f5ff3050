"""Power over time as drawings."""

from exporter.expose.page.power_history import MAX_POINTS, sparkline, stacked_area


def test_nothing_is_drawn_of_what_is_not_known():
    assert sparkline((None, None)) == ""
    assert sparkline(()) == ""


def test_a_line_stands_on_zero_and_reaches_the_top_at_its_most():
    drawn = sparkline((0.0, 50.0, 100.0))
    assert 'd="M0,23.0L60,12.0L120,1.0"' in drawn
    assert "maximum 100 W" in drawn


def test_an_hour_without_power_is_a_line_on_zero():
    assert 'd="M0,23.0L120,23.0"' in sparkline((0.0, 0.0))


def test_a_line_breaks_where_nothing_is_known():
    drawn = sparkline((None, 2.0, None, 1.0, 2.0))
    assert 'd="M30,1.0h.1M90,12.0L120,1.0"' in drawn


def test_areas_stand_on_each_other():
    drawn = stacked_area({"cpu": (1.0, 1.0), "gpu": (1.0, 3.0)}, "seen")
    assert '<polygon class="cpu" points="0.0,89.5 720.0,89.5 720.0,119.0 0.0,119.0">' in drawn
    assert '<polygon class="gpu" points="0.0,60.0 720.0,1.0 720.0,89.5 0.0,89.5">' in drawn


def test_a_drawing_says_what_is_to_be_seen():
    drawn = stacked_area({"cpu": (1.0,)}, "at most 1 W")
    assert 'role="img" aria-label="at most 1 W"' in drawn
    assert "<title>at most 1 W</title>" in drawn


def test_many_points_are_drawn_as_fewer_means():
    drawn = stacked_area({"cpu": tuple(range(10 * MAX_POINTS + 5))}, "")
    assert drawn.count(",") / 2 <= MAX_POINTS
