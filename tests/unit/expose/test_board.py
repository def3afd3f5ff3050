"""The publisher of snapshots."""

from exporter.expose.exposition import SnapshotPublisher
from exporter.expose.metrics import metric_families
from exporter.expose.process_collector import ProcessState


def test_before_the_first_tick_there_is_nothing():
    assert SnapshotPublisher(metric_families()).current is None


def test_snapshot_and_page_change_together(made):
    board = SnapshotPublisher(metric_families())
    board.publish(made.snapshot())
    before = board.current
    board.publish(made.gpu_node())
    assert before.metrics_page.text() != board.current.metrics_page.text()
    assert b"bert" in board.current.metrics_page.text()
    assert board.current.snapshot.runs


def test_the_metrics_include_the_daemons_own_usage(made):
    board = SnapshotPublisher(metric_families(), lambda: ProcessState(1.5, 2, 3, 4.0))
    board.publish(made.snapshot())
    assert b"\nprocess_cpu_seconds_total 1.5\n" in board.current.metrics_page.text()
