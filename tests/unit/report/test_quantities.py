"""What reports say of a record."""

import pytest

from exporter.report import quantities
from tests.unit.report.forms.making import gpu, record


def test_the_hardware_is_the_models_of_the_gpus_then_of_the_processors():
    cpu = {**record()["parts"][2], "model": "AMD EPYC 7763"}
    parts = [cpu, {**cpu, "id": "package-1"}, gpu("GPU-1"), {**cpu, "device": "dram"}]
    assert quantities.hardware_text(record(parts=parts)) == (
        "1 \u00d7 NVIDIA A100-SXM4-80GB, 2 \u00d7 AMD EPYC 7763"
    )


def test_equal_cards_of_two_nodes_are_two():
    parts = [{**gpu("0"), "node": "n1"}, {**gpu("0"), "node": "n2"}]
    assert quantities.hardware_text(record(parts=parts)) == "2 \u00d7 NVIDIA A100-SXM4-80GB"


def test_hardware_that_no_node_knows_is_not_made_up():
    assert quantities.hardware_text(record(parts=[])) == ""


IMPORTED = {
    "origin": "codecarbon",
    "parts": [{"device": "gpu", "id": "codecarbon"}, {"device": "cpu", "id": "codecarbon"}],
}


@pytest.mark.parametrize(
    ("labels", "text", "gpus"),
    [
        ({"gpu_model": "8 x NVIDIA A100", "cpu_model": "Xeon"}, "8 \u00d7 NVIDIA A100, Xeon", 8),
        ({"gpu_model": "2 x Tesla V1001 x T4"}, "2 \u00d7 Tesla V1001 x T4", 0),
        ({"gpu_model": "RTX 3090 x Ti"}, "RTX 3090 x Ti", 0),
        ({"cpu_model": "Xeon"}, "CPU: Xeon", 0),
        ({"hardware_used": "1 laptop", "cpu_model": "Xeon"}, "1 laptop", 0),
        ({}, "", 0),
    ],
)
def test_the_hardware_of_an_imported_run_is_that_of_its_file(labels, text, gpus):
    record = {**IMPORTED, "labels": labels}
    assert quantities.hardware_text(record) == text
    assert quantities.imported_gpu_count(record) == gpus
    own = {**record, "origin": "registered", "labels": {**labels, "hardware_used": ""}}
    assert quantities.hardware_text(own) == ""
