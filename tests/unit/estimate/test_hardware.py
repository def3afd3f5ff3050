"""Hardware by names as people, drivers and kernels write them."""

import csv

import pytest

from exporter.data.processors import TABLE, rows_of
from exporter.errors import ConfigError
from exporter.estimate.hardware import find_hardware
from exporter.sample.power_model import tdp_watts


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
    found = find_hardware(text).hardware
    assert (found.name, found.watts) == (name, watts)


def test_what_else_a_name_could_be_is_named():
    assert [other.name for other in find_hardware("A100 SXM4").others] == ["NVIDIA A100 SXM4 40GB"]


def test_an_equal_name_goes_before_longer_ones_which_are_named():
    chosen = find_hardware("V100")
    assert chosen.hardware.name == "Tesla V100"
    assert "NVIDIA V100 PCIe" in [other.name for other in chosen.others]


def test_two_powers_of_one_name_are_not_guessed_between():
    with pytest.raises(ConfigError) as error:
        find_hardware("A100")
    text = str(error.value)
    assert "A100 SXM4 80 GB (400 W)" in text
    assert "NVIDIA A100 PCIe 80GB (300 W)" in text
    assert text.endswith("name one of them, or a power, such as --hardware '350 W'")


def test_an_accelerator_goes_before_an_old_processor_of_that_number():
    with pytest.raises(ConfigError) as error:
        find_hardware("A100")
    assert "Intel A100" not in str(error.value)
    assert find_hardware("Intel A100").hardware.watts == 3


@pytest.mark.parametrize(
    "text", ["RTX 2080 Super", "A100X", "nonsense", "", "\u202e", "x" * 10_000]
)
def test_a_number_or_a_name_that_is_not_there_is_rejected(text):
    with pytest.raises(ConfigError, match="no bundled table has the hardware") as error:
        find_hardware(text)
    assert len(str(error.value)) < 600


def test_what_looks_like_it_is_named():
    with pytest.raises(ConfigError, match="did you mean RTX 2080 or RTX 2080 Ti"):
        find_hardware("RTX 2080 Super")


def test_a_doubtful_row_has_a_warning():
    assert "55 W" in find_hardware("GTX 750").hardware.doubt


CPUINFO = {
    "12th Gen Intel(R) Core(TM) i7-12700H": 45,
    "11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz": 28,
    "Intel(R) Core(TM) i7 CPU         920  @ 2.67GHz": 130,
    "Intel(R) Core(TM)2 Duo CPU     E8400  @ 3.00GHz": 65,
    "Intel(R) Core(TM) Ultra 7 155H": 28,
    "Intel(R) Xeon(R) CPU E5-2680 0 @ 2.70GHz": 130,
    "Intel(R) Xeon(R) CPU           X5650  @ 2.67GHz": 95,
    "Intel(R) Xeon(R) Platinum 8480+": 350,
    "INTEL(R) XEON(R) GOLD 6530": 270,
    "AMD Ryzen 7 5800H with Radeon Graphics": 45,
    "AMD Ryzen 9 7940HS w/ Radeon 780M Graphics": 54,
    "AMD Ryzen AI 9 HX 370 w/ Radeon 890M": 28,
    "AMD Ryzen 3 3200U with Radeon Vega Mobile Gfx": 15,
    "AMD A10-7850K Radeon R7, 12 Compute Cores 4C+8G": 95,
    "AMD FX(tm)-8350 Eight-Core Processor": 125,
    "AMD Opteron(tm) Processor 6276": 115,
    "AMD Ryzen Threadripper PRO 5995WX 64-Cores": 280,
    "AMD EPYC 7763 64-Core Processor": 280,
}
"""`model name` of /proc/cpuinfo in the forms that kernels print, some of them from published logs,
and the table's power."""


@pytest.mark.parametrize(("shown", "watts"), CPUINFO.items(), ids=CPUINFO)
def test_a_processor_is_what_the_daemon_takes_it_for(shown, watts):
    assert find_hardware(shown).hardware.watts == watts
    assert tdp_watts(shown) == watts


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("i7-12700H", "Intel Core i7-12700H"),
        ("12th gen i7-12700h", "Intel Core i7-12700H"),
        ("12th Gen Intel(R) Core(TM) i7-12700H (20 CPUs), ~2.3GHz", "Intel Core i7-12700H"),
        ("  12th\u00a0Gen Intel(R) Core(TM)\u00a0i7-12700H", "Intel Core i7-12700H"),
        ("Ryzen 7 5800H with Radeon Graphics", "AMD Ryzen 7 5800H"),
        ("AMD Ryzen 5 6600HS", "AMD Ryzen 5 6600HS\u200b"),
    ],
)
def test_a_processor_is_found_by_part_of_what_is_shown(text, name):
    assert find_hardware(text).hardware.name == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100 SXM4 80 GB"),
        ("NVIDIA A100 80GB PCIe", "NVIDIA A100 PCIe 80GB"),
        ("AMD Instinct MI300X OAM", "AMD Instinct MI300X"),
        ("NVIDIA H200", "NVIDIA H200 SXM"),
        ("NVIDIA H200 NVL", "NVIDIA H200 NVL"),
        ("Quadro RTX 8000", "RTX 8000"),
        ("NVIDIA GeForce RTX 2080 Ti", "RTX 2080 Ti"),
        ("Tesla V100-SXM2-32GB", "Tesla V100-SXM2-32GB"),
        ("NVIDIA RTX 6000 Ada Generation", "NVIDIA RTX 6000 Ada Generation"),
    ],
)
def test_a_card_is_found_by_the_name_that_its_driver_gives(text, name):
    assert find_hardware(text).hardware.name == name


@pytest.mark.parametrize(
    "text",
    [
        "Tesla V100-SXM3-32GB",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "GeForce RTX 2080 with Max-Q Design",
        "NVIDIA GH200 480GB",
    ],
)
def test_a_card_of_another_power_is_not_taken_for_it(text):
    with pytest.raises(ConfigError, match="no bundled table has"):
        find_hardware(text)


def table():
    with TABLE.open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_every_name_of_the_table_is_its_row():
    rows = table()
    accelerators = [row for row in rows if row["type"] != "cpu"]
    in_brackets = [row for row in rows if row["name"].endswith("W)")]
    for row in (*accelerators, *in_brackets, *rows[::200]):
        assert float(find_hardware(row["name"]).hardware.watts) == float(row["tdp_watts"]), row[
            "name"
        ]


@pytest.mark.parametrize(
    "shown",
    [
        lambda name: f"14th Gen {name.replace('Intel', 'Intel(R)')} CPU @ 2.00GHz",
        lambda name: f"{name} 16-Core Processor",
        lambda name: f"{name} with Radeon Graphics",
        lambda name: name.upper().replace(" ", "  "),
    ],
)
def test_daemon_and_estimate_agree_on_what_a_kernel_adds_to_a_name(shown):
    names = [row["name"] for row in table() if row["type"] == "cpu" and row["vendor"]]
    for name in names[::150]:
        watts = tdp_watts(shown(name))
        assert watts is not None, name
        assert float(find_hardware(shown(name)).hardware.watts) == watts


def test_no_accelerator_has_the_name_of_a_processor():
    names = [row["name"] for row in table() if row["type"] != "cpu"]
    assert [name for name in names if any(rows_of(name))] == []


def test_powers_of_one_shown_name_are_not_guessed_between():
    with pytest.raises(ConfigError, match=r"Q6600 \(105W\).* or|could be .*Q6600 \(95W\)"):
        find_hardware("Intel(R) Core(TM)2 Quad CPU    Q6600  @ 2.40GHz")


@pytest.mark.parametrize(
    ("text", "name", "watts"),
    [("1.2 kW", "1.2 kW", 1200), ("0.35kw", "0.35 kW", 350), ("350W", "350 W", 350)],
)
def test_a_power_is_in_watts_or_kilowatts(text, name, watts):
    hardware = find_hardware(text).hardware
    assert (hardware.name, hardware.watts) == (name, watts)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("350", "did you mean --hardware '350 W'? name one of them, or a power"),
        ("12345", "did you mean --hardware '12345 W'? it can also be a power"),
        ("8 A100 80GB", "did you mean --hardware 'A100 80GB' --count 8?"),
        ("4x H100", "did you mean --hardware 'H100' --count 4?"),
        ("AMD EPYC", "name one of them, or a power, such as --hardware '350 W'"),
    ],
)
def test_an_error_shows_how_the_request_is_written(text, hint):
    with pytest.raises(ConfigError) as error:
        find_hardware(text)
    assert hint in str(error.value)


def test_a_number_that_is_a_model_is_the_model():
    assert "4090" in find_hardware("4090").hardware.name
