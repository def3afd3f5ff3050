"""The board between the loop and its readers."""

from exporter.expose.board import Board
from exporter.expose.catalogue import catalogue
from exporter.expose.process import ProcessState


def test_before_the_first_tick_there_is_nothing():
    assert Board(catalogue()).current is None


def test_snapshot_and_page_change_together(made):
    board = Board(catalogue())
    board.publish(made.snapshot())
    before = board.current
    board.publish(made.gpu_node())
    assert before.page.text() != board.current.page.text()
    assert b"bert" in board.current.page.text()
    assert board.current.snapshot.runs


def test_the_page_says_what_the_daemon_costs(made):
    board = Board(catalogue(), lambda: ProcessState(1.5, 2, 3, 4.0))
    board.publish(made.snapshot())
    assert b"\nprocess_cpu_seconds_total 1.5\n" in board.current.page.text()
