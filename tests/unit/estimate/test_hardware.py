"""Hardware by names as people, drivers and kernels write them."""

import pytest

from exporter.errors import ConfigError
from exporter.estimate.hardware import find


@pytest.mark.parametrize(
    ("text", "name", "watts"),
    [
        ("A100 SXM4", "A100 SXM4 80 GB", 400),
        ("NVIDIA A100-SXM4-40GB", "NVIDIA A100 SXM4 40GB", 400),
        ("A100 PCIe 40GB", "A100 PCIe 40/80GB", 250),
        ("nvidia a100 pcie 80gb", "NVIDIA A100 PCIe 80GB", 300),
        ("NVIDIA H100 80GB HBM3", "H100 SXM", 700),
        ("h100 sxm5", "H100 SXM", 700),
        ("V100-SXM2-32GB", "Tesla V100-SXM2-32GB", 300),
        ("Tesa V100-SXM2-32GB", "Tesla V100-SXM2-32GB", 300),
        ("RTX4090", "RTX 4090", 450),
        ("RTX 2080", "RTX 2080", 215),
        ("Instict MI250X", "AMD Instinct MI250X", 560),
        ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763", 280),
        (
            "Intel(R) Xeon(R) Platinum 8175M CPU @ 2.50GHz",
            "Intel Xeon Platinum 8175M",
            240,
        ),
        ("350 W", "350 W", 350),
        ("0.5watts", "0.5 W", 0.5),
    ],
)
def test_a_name_is_found(text, name, watts):
    found = find(text).hardware
    assert (found.name, found.watts) == (name, watts)


def test_what_else_a_name_could_be_is_named():
    assert [other.name for other in find("A100 SXM4").others] == ["NVIDIA A100 SXM4 40GB"]


def test_an_equal_name_goes_before_longer_ones_which_are_named():
    chosen = find("V100")
    assert chosen.hardware.name == "Tesla V100"
    assert "NVIDIA V100 PCIe" in [other.name for other in chosen.others]


def test_two_powers_of_one_name_are_not_guessed_between():
    with pytest.raises(ConfigError) as error:
        find("A100")
    text = str(error.value)
    assert "A100 SXM4 80 GB (400 W)" in text
    assert "NVIDIA A100 PCIe 80GB (300 W)" in text
    assert text.endswith("name one of them")


def test_an_accelerator_goes_before_an_old_processor_of_that_number():
    with pytest.raises(ConfigError) as error:
        find("A100")
    assert "Intel A100" not in str(error.value)
    assert find("Intel A100").hardware.watts == 3


@pytest.mark.parametrize(
    "text", ["RTX 2080 Super", "A100X", "nonsense", "", "\u202e", "x" * 10_000]
)
def test_a_number_or_a_name_that_is_not_there_is_refused(text):
    with pytest.raises(ConfigError, match="no bundled table knows the hardware") as error:
        find(text)
    assert len(str(error.value)) < 600


def test_what_looks_like_it_is_named():
    with pytest.raises(ConfigError, match="did you mean RTX 2080 or RTX 2080 Ti"):
        find("RTX 2080 Super")


def test_a_doubtful_row_says_so():
    assert "55 W" in find("GTX 750").hardware.doubt
