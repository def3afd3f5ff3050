"""Plots of a leaderboard by matplotlib: what is drawn, and under which names."""

import builtins
from xml.etree import ElementTree as ET

import pytest
from matplotlib.colors import to_rgba

from exporter.errors import ConfigError
from exporter.report.leaderboard import plots
from exporter.report.leaderboard.board import make_leaderboard
from exporter.report.leaderboard.entry import make_entries
from exporter.report.leaderboard.ranking import choose_criteria
from tests.unit.report.leaderboard.making import record

pytestmark = [pytest.mark.real, pytest.mark.beside]
HOSTILE = "</title><script>$\\frac{1}{0}$</script>\u202e\"'&\x00"
NAMESPACE = "{http://www.w3.org/2000/svg}"


FILES = ("results", "emissions", "per-unit")


def run(name, grams, accuracy, **more):
    logged = {"accuracy": accuracy, **more.pop("logged", {})}
    return record(name, grams, logged=logged, **more)


SEVERAL = (
    run("cheap", 1.0, 0.5, held=0.25, units={"requests": 1_000.0}, logged={"params": 1e6}),
    run("good", 50.0, 0.9, logged={"params": 4e6}),
    run("beaten", 40.0, 0.4),
    run("still", 60.0, 0.8, ended=None),
)


def made(*records):
    runs = make_entries(records)
    return make_leaderboard(runs, choose_criteria(runs))


def drawn(name, *records):
    """The axes of one plot."""
    (plot,) = (plot for plot in plots.make_plots(made(*records)) if plot.name == name)
    return plots._figure(plot, plots.LIGHT, plots.WIDE_INCHES).axes[0]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def written(document):
    """The texts of an SVG document."""
    return ["".join(each.itertext()) for each in ET.fromstring(document).iter(f"{NAMESPACE}text")]


def test_every_run_with_a_result_and_grams_is_a_bubble_with_its_name():
    axes = drawn("results", *SEVERAL)
    assert len(axes.collections) == 4
    assert set(texts(axes)) == {"cheap", "good", "beaten", "still"}


def test_plots_label_runs_by_name_and_add_the_id_where_a_name_is_not_unique():
    names = {"1f": "warm up", "2f": "again", "3f": "again"}
    named = [run(run_id, 1.0 + n, 0.5) | {"name": names[run_id]} for n, run_id in enumerate(names)]
    labels = [label.get_text() for label in drawn("emissions", *named).get_yticklabels()]
    assert labels == ["warm up", "again (2f)", "again (3f)"]
    assert set(texts(drawn("results", *named))) == set(labels)


def test_the_bars_of_a_plot_have_one_unit():
    axes = drawn("emissions", run("small", 2.0, 0.5), run("large", 5_000.0, 0.6))
    assert texts(axes) == ["0.002 kg", "5.00 kg"]


def test_bubbles_are_at_their_grams_and_results():
    axes = drawn("results", *SEVERAL)
    places = [tuple(bubble.get_offsets()[0]) for bubble in axes.collections]
    assert set(places) == {(1.0, 0.5), (50.0, 0.9), (40.0, 0.4), (60.0, 0.8)}


def test_the_area_of_a_bubble_is_proportional_to_the_size_of_its_model():
    areas = {
        bubble.get_offsets()[0][0]: bubble.get_sizes()[0]
        for bubble in drawn("results", *SEVERAL).collections
    }
    assert areas[50.0] == pytest.approx(4 * areas[1.0])


def test_the_line_goes_over_the_pareto_runs():
    (line,) = drawn("results", *SEVERAL).lines
    assert line.get_xydata().tolist() == [[1.0, 0.5], [50.0, 0.9]]


def test_a_run_that_has_not_ended_is_dashed():
    dashed = [
        bubble.get_offsets()[0][0]
        for bubble in drawn("results", *SEVERAL).collections
        if bubble.get_linestyle()[0][1]
    ]
    assert dashed == [60.0]


@pytest.mark.parametrize(("grams", "scale"), [((1, 9), "linear"), ((1, 11), "log")])
def test_emissions_that_span_more_than_a_decade_have_a_logarithmic_axis(grams, scale):
    axes = drawn("results", *(run(f"r{amount}", amount, 0.5) for amount in grams))
    assert axes.get_xscale() == scale


def test_one_result_alone_is_not_plotted():
    assert [plot.name for plot in plots.make_plots(made(SEVERAL[0]))] == ["emissions", "per-unit"]


def test_a_bar_has_an_active_and_an_idle_part():
    axes = drawn("emissions", *SEVERAL)
    assert [bar.get_width() for bar in axes.patches[:2]] == [0.75, 0.25]
    assert texts(axes)[0] == "1.00 g"


def test_grams_per_unit_are_drawn_where_something_was_counted():
    axes = drawn("per-unit", *SEVERAL)
    assert axes.get_xlabel() == "CO2eq in g per 10\u202f000 requests"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cheap"]
    assert [bar.get_width() for bar in axes.patches if bar.get_width()] == [10.0]
    assert texts(axes) == ["10.0 g"]


def test_the_unit_of_grams_per_unit_is_on_the_axis():
    axes = drawn("per-unit", run("a", 3.0, 0.5, units={"samples": 60_000.0}))
    assert axes.get_xlabel() == "CO2eq in mg per 1\u202f000 samples"
    assert texts(axes) == ["50.0 mg"]


def test_a_file_has_the_title_and_the_caption_of_its_plot(tmp_path):
    plots.write_plots(made(*SEVERAL), str(tmp_path))
    texts_of = {name: written((tmp_path / f"{name}.svg").read_bytes()) for name in FILES}
    assert "accuracy against CO2eq" in texts_of["results"]
    assert (
        "The area of a circle is params, at most 4 million. Without params: a small ring. Green, "
        "on the dotted line: Pareto. Dashed circle: running, lost or grams incomplete."
    ) in texts_of["results"]
    assert "CO2eq per 10\u202f000 requests" in texts_of["per-unit"]
    assert "CO2eq of each run" in texts_of["emissions"]


def test_of_many_runs_the_first_forty_have_a_bar_and_the_caption_says_it():
    (plot,) = plots.make_plots(made(*(record(f"r{n}", 1.0 + n) for n in range(60))))
    assert "The first 40 of 60 runs." in plot.caption


def test_names_are_above_the_line_of_pareto_runs_and_hide_it():
    axes = drawn("results", *SEVERAL)
    drawn_below = [artist.zorder for artist in (*axes.lines, *axes.collections)]
    for name in axes.texts:
        assert name.zorder > max(drawn_below)
        assert name.get_bbox_patch().get_facecolor() == to_rgba(plots.LIGHT.paper)


def test_names_do_not_cover_each_other():
    axes = drawn("results", *(run(f"a-long-name-{n}", 10.0 + n / 9, 0.5) for n in range(30)))
    axes.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert 0 < len(boxes) < 30
    assert not any(box.count_overlaps(boxes[:index]) for index, box in enumerate(boxes))


@pytest.mark.parametrize("values", [(0.0, 0.0), (-3.0, -3.0), (1e-300, 1e300), (5.0, 5.0)])
def test_results_that_are_equal_or_far_apart_are_drawn(values):
    whole = made(*(run(f"r{n}", 1.0, value) for n, value in enumerate(values)))
    for plot in plots.make_plots(whole):
        assert plots.render_svg(plot, plots.DARK).startswith(b"<?xml")


def test_a_name_stays_the_text_that_it_is():
    whole = made(*SEVERAL[:2], run(HOSTILE, 60.0, 0.8))
    for plot in plots.make_plots(whole):
        document = plots.render_svg(plot, plots.LIGHT)
        assert b"<script" not in document
        assert "\u202e" not in document.decode()
    first = written(plots.render_svg(plots.make_plots(whole)[1], plots.LIGHT))
    assert any(text.startswith("</title><script>$\\frac") for text in first)


def test_the_same_board_is_the_same_file():
    (plot, *_) = plots.make_plots(made(*SEVERAL))
    assert plots.render_svg(plot, plots.LIGHT) == plots.render_svg(plot, plots.LIGHT)


def test_each_plot_is_written_as_png_and_svg(tmp_path):
    paths = plots.write_plots(made(*SEVERAL), str(tmp_path / "plots"))
    assert [path.rpartition("/")[2] for path in paths] == [
        f"{name}.{form}" for name in FILES for form in ("png", "svg")
    ]
    assert (tmp_path / "plots" / "results.png").read_bytes().startswith(b"\x89PNG")


def test_a_directory_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--plots .*file/plots: Not a directory"):
        plots.write_plots(made(*SEVERAL), str(tmp_path / "file" / "plots"))


def test_without_matplotlib_it_is_said_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments):
        if name == "matplotlib":
            raise ModuleNotFoundError(name=name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'emissions-exporter\[plots\]'"):
        plots.make_plots(made(*SEVERAL))
