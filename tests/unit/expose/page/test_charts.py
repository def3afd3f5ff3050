"""Charts of power over time."""

from exporter.expose.page.power_history import MAX_POINTS, sparkline, stacked_area


def test_unknown_power_draws_no_chart():
    assert sparkline((None, None)) == ""
    assert sparkline(()) == ""


def test_a_line_starts_at_zero_and_scales_to_its_maximum():
    drawn = sparkline((0.0, 50.0, 100.0))
    assert 'd="M0,23.0L60,12.0L120,1.0"' in drawn
    assert "maximum 100 W" in drawn


def test_an_hour_of_zero_power_is_a_line_at_zero():
    assert 'd="M0,23.0L120,23.0"' in sparkline((0.0, 0.0))


def test_a_line_has_gaps_for_unknown_power():
    drawn = sparkline((None, 2.0, None, 1.0, 2.0))
    assert 'd="M30,1.0h.1M90,12.0L120,1.0"' in drawn


def test_areas_are_stacked():
    drawn = stacked_area({"cpu": (1.0, 1.0), "gpu": (1.0, 3.0)}, "seen")
    assert '<polygon class="cpu" points="0.0,89.5 720.0,89.5 720.0,119.0 0.0,119.0">' in drawn
    assert '<polygon class="gpu" points="0.0,60.0 720.0,1.0 720.0,89.5 0.0,89.5">' in drawn


def test_a_chart_has_an_accessible_description():
    drawn = stacked_area({"cpu": (1.0,)}, "at most 1 W")
    assert 'role="img" aria-label="at most 1 W"' in drawn
    assert "<title>at most 1 W</title>" in drawn


def test_many_points_are_downsampled_to_means():
    drawn = stacked_area({"cpu": tuple(range(10 * MAX_POINTS + 5))}, "")
    assert drawn.count(",") / 2 <= MAX_POINTS
