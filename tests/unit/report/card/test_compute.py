"""How much hardware worked for how long, by texts of public cards and by our own."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.report.card.compute import parse_gpu_count, parse_hours
from exporter.report.card.facts import section_facts


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("GeForce RTX 2080 Ti", 1),
        ("NVIDIA GeForce GTX 1660 SUPER 6GB", 1),
        ("NVIDIA RTX 6000 Ada Generation", 1),
        ("Quadro RTX 8000", 1),
        ("RTX 4090 GPU", 1),
        ("3090 Ti", 1),
        ("A100 80GB", 1),
        ("NVIDIA L40S", 1),
        ("2080Ti x 4", 4),
        ("8 A100s", 8),
        ("NVIDIA A100 40 GB", 1),
        ("H100 80GB HBM3", 1),
        ("NVIDIA GeForce RTX 4070 (8 Go VRAM)", 1),
        ("P100 for about 1.5 hours", 1),
        ("NVIDIA A100 Tensor Core GPU", 1),
        ("1 TPU v3-8 VM", 1),
        ("3 x RTX 3090", 3),
        ("2x 3090", 2),
        ("RTX 4090 x 2", 2),
        ("2 GTX 1080 Ti", 2),
        ("GPU from Kaggle (NVIDIA T4 x 2)", 2),
        ("NVIDIA A100x4", 4),
        ("A100 (4x)", 4),
        ("7 GPU NVIDIA V100", 7),
        ("8 V100 GPUs", 8),
        ("8xA100 GPUs", 8),
        ("8 \\* A100", 8),
        ("8 16GB V100", 8),
        ("8 x 32GB NVIDIA V100 GPUs", 8),
        ("A100 (80 GB) x 8", 8),
        ("NVIDIA A100 8 GPUs", 8),
        ("a single machine with 8 V100 cards", 8),
        ("DGX-2 box (16 V100-32GB)", 16),
        ("384 A100 80GB GPUs", 384),
        ("1,024 A100", 1024),
        ("4000 H100 GPUs", 4000),
        ("1 \u00d7 A100-SXM4-80GB, 2 \u00d7 AMD EPYC 7763 64-Core Processor", 1),
        ("", 1),
    ],
)
def test_gpus_are_counted(text, count):
    assert parse_gpu_count(text) == (count, count)


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("A100 GPUs", (1, math.inf)),
        ("eight V100s", (1, math.inf)),
        ("RTX 3090 GPUs", (1, math.inf)),
        ("32 nodes of 8 V100", (32, 256)),
        ("4 A100 and 2 V100", (4, 6)),
    ],
)
def test_a_vague_count_has_bounds(text, bounds):
    assert parse_gpu_count(text) == bounds


@pytest.mark.parametrize(
    "text",
    [
        "CPU",
        "12 x 13th Gen Intel(R) Core(TM) i7-1355U (CPU)",
        "2 \u00d7 AMD EPYC 7763 64-Core Processor",
        "Apple M2 Chip",
    ],
)
def test_processors_are_no_gpus(text):
    assert parse_gpu_count(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("~60", 60),
        ("1,439", 1439),
        ("1\u202f439", 1439),
        ("6.6h", 6.6),
        ("2.5 hours", 2.5),
        ("168 (1 week)", 168),
        ("7 days", 168),
        ("2 days 3 hours", 51),
        ("10 mins (at max length 128), 20 mins each", 1 / 6),
        ("3 hours and 26 minutes", 3 + 26 / 60),
        ("61,440 hours for ViT-7B model training", 61_440),
    ],
)
def test_hours_are_read(text, value):
    found = parse_hours(text)
    assert found is not None
    assert found.bounds == pytest.approx((value, value))
    assert not found.is_gpu_hours


def test_a_range_of_hours_has_bounds():
    assert parse_hours("~2-4 hours").bounds == (2, 4)


@pytest.mark.parametrize("text", ["500 GPU-hours", "500 A100 hours"])
def test_hours_of_gpus_are_told_from_those_of_the_clock(text):
    assert parse_hours(text) == ((500, 500), True)


@pytest.mark.parametrize(
    "text",
    [
        "[More Information Needed]",
        "trained for 300 epochs",
        "4000 pretraining",
        "960 = 5 days x 24h x 8 GPUs",
        "460,000 CPU hours, 385,000 V100 GPU hours",
        "0",
    ],
)
def test_hours_that_are_not_clear_are_unknown(text):
    assert parse_hours(text) is None


@given(st.integers(1, 64), st.sampled_from(["", "A100", "GeForce RTX 2080 Ti", "RTX 3090 24GB"]))
def test_what_a_card_of_ours_says_is_read(count, model):
    part = {"device": "gpu", "method": "counter", "model": model, "energy_uj": 1}
    written = {
        "labels": {},
        "node": "n1",
        "nodes": None,
        "intensity": [],
        "held_uj": 0,
        "energy_uj": count,
        "carbon_ng": 0,
        "duration_seconds": 3600.0 * count,
        "parts": [{**part, "id": f"GPU-{n}"} for n in range(count)],
    }
    facts = section_facts(written)
    assert parse_gpu_count(facts["Hardware Type"].text) == (count, count)
    assert parse_hours(facts["Hours used"].text) == ((count, count), False)


@given(st.text(alphabet="0123456789 x\u00d7*.,-()GPUsA100nodehours\\"))
def test_any_text_is_read_without_an_error(text):
    parse_gpu_count(text)
    parse_hours(text)
