"""What waits for a tracking server, and how it gets there."""

import logging

import pytest

from exporter.integrations.mlflow import delivery as deliveries
from exporter.integrations.mlflow.delivery import MetricsQueue, is_unreachable


@pytest.fixture
def delivery(mlflow):
    return MetricsQueue(mlflow, "r1")


def test_what_a_server_does_not_take_arrives_later_in_its_order(mlflow, delivery, caplog):
    mlflow.broken = RuntimeError("database is locked")
    with caplog.at_level(logging.WARNING, "emissions"):
        for step in range(3):
            delivery.put({"energy_kwh": float(step)}, step)
            assert not delivery.send()
    assert caplog.text.count("database is locked") == 1
    mlflow.broken = None
    assert delivery.send()
    ((run_id, metrics, _),) = mlflow.batches
    assert (run_id, [(m.value, m.step) for m in metrics]) == ("r1", [(0, 0), (1, 1), (2, 2)])


def test_a_password_in_the_address_is_not_said(mlflow, caplog):
    mlflow.broken = RuntimeError("POST http://me:secret@host/api failed")
    delivery = MetricsQueue(mlflow, "r1", "http://me:secret@127.0.0.1:9")
    delivery.put({"a": 1.0})
    with caplog.at_level(logging.WARNING, "emissions"):
        delivery.send()
        delivery.tracking_uri = "sqlite:///x"
        delivery.send()
    assert "http://127.0.0.1:9 does not answer" in caplog.text
    assert "POST http://host/api failed" in caplog.text
    assert "secret" not in caplog.text


def test_no_batch_is_larger_than_mlflow_takes(mlflow, delivery):
    for step in range(1_500):
        delivery.put({"a": 1.0, "b": 2.0}, step)
    assert delivery.send()
    assert [len(metrics) for _, metrics, _ in mlflow.batches] == [1000, 1000, 1000]


def test_tags_count_among_the_thousand_of_a_batch(mlflow, delivery):
    delivery.tag({f"t{n}": "x" for n in range(9)})
    for step in range(600):
        delivery.put_part("p", {"energy_kwh": 1.0, "duration_seconds": float(step)})
    assert delivery.send()
    assert [len(metrics) + len(tags) for _, metrics, tags in mlflow.batches] == [1000, 211]


def test_what_another_logged_meanwhile_is_in_the_next_sum(mlflow, delivery):
    other = MetricsQueue(mlflow, "r1")
    for value in (1.0, 2.0):
        for each, part in ((delivery, "a"), (other, "b")):
            each.put_part(part, {"energy_kwh": value, "duration_seconds": value})
            assert each.send()
    assert mlflow.metrics == {"energy_kwh": 4.0, "duration_seconds": 4.0, "mean_power_watts": 3.6e6}


def test_of_too_many_the_newest_are_kept(mlflow, delivery, monkeypatch):
    monkeypatch.setattr(deliveries, "MAX_QUEUED_POINTS", 2)
    small = MetricsQueue(mlflow, "r1")
    for step in range(5):
        small.put({"a": float(step)}, step)
    small.send()
    assert [m.step for _, metrics, _ in mlflow.batches for m in metrics] == [3, 4]


def test_tags_go_again_only_when_they_change(mlflow, delivery):
    for zone in ("DE", "DE", "FR"):
        delivery.tag({"emissions.zone": zone})
        delivery.put({"a": 1.0})
        delivery.send()
    assert [[t.value for t in tags] for _, _, tags in mlflow.batches] == [["DE"], [], ["FR"]]


def test_a_record_goes_again_only_when_it_changes(mlflow, delivery):
    for grams in (1.0, 1.0, 2.0):
        delivery.attach({"carbon_grams": grams})
        assert delivery.send()
    assert [record["carbon_grams"] for _, record, _ in mlflow.artifacts] == [1.0, 2.0]


def test_nobody_is_asked_whether_a_file_is_there():
    assert not is_unreachable("sqlite:///mlflow.db")
    assert not is_unreachable("databricks")


def test_a_port_where_nobody_listens_is_away():
    assert is_unreachable("http://127.0.0.1:9")
