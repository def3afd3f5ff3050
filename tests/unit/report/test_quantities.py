"""What reports say of a record."""

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
