"""Choice of the energy counter and of the power limits in hwmon."""

import pytest

from exporter.sample.sources.intel_gpu.hwmon import find_counter
from exporter.sample.sources.intel_gpu.models import MODELS, model_name


def chosen(card):
    counter = find_counter(str(card.path))
    return None if counter is None else counter.path.removeprefix(f"{card.path}/hwmon/")


def limits(card):
    return list(find_counter(str(card.path)).limits_watts())


def test_tiles_are_part_of_the_device_and_not_added(tree):
    """The order of a Data Center GPU Max 1550 in the tests of GEOPM."""
    card = tree.card(driver="i915", device="0x0bd5")
    card.hwmon(45, "i915_gt0", energy1_input=123456)
    card.hwmon(6, "i915_gt1", energy1_input=234567)
    card.hwmon(7, "i915", energy1_input=345678)
    assert chosen(card) == "hwmon7/energy1_input"


def test_card_is_preferred_to_the_package_inside_it(tree):
    """An Arc Pro B70: aristocratos/btop pull request 1457."""
    card = tree.card(device="0xe223")
    card.hwmon(
        7,
        "xe",
        energy1_label="card",
        energy1_input=9,
        energy2_label="pkg",
        energy2_input=5,
    )
    assert chosen(card) == "hwmon7/energy1_input"


def test_package_is_used_if_the_card_is_not_counted(tree):
    """intel/xpumanager issue 123: xe has energy2_input only, as with A-Series and Max."""
    card = tree.card(device="0x56a0")
    card.hwmon(3, "xe", energy2_label="pkg", energy2_input=5)
    assert chosen(card) == "hwmon3/energy2_input"


@pytest.mark.parametrize("driver", ["i915", "xe"])
def test_counter_without_label_is_that_of_the_card(tree, driver):
    """i915 has no labels, nor had xe before Linux 6.8."""
    card = tree.card(driver=driver)
    card.hwmon(2, driver, energy1_input=5)
    assert chosen(card) == "hwmon2/energy1_input"


def test_other_hwmon_devices_and_labels_are_ignored(tree):
    card = tree.card()
    card.hwmon(0, "acpitz", energy1_input=1)
    card.hwmon(1, "xe", energy1_label="vram", energy1_input=1)
    card.hwmon(2, "xe", temp2_input=40000, energy1_label="card")
    assert chosen(card) is None


def test_sustained_limit_is_the_limit(tree):
    card = tree.card(device="0x56a1")
    card.hwmon(5, "i915", energy1_input=1, power1_max=190_000_000, power1_rated_max=225_000_000)
    assert limits(card) == [190.0, 225.0]


def test_disabled_limit_is_none(tree):
    card = tree.card(device="0x56a1")
    card.hwmon(5, "i915", energy1_input=1, power1_max=0, power1_rated_max=190_000_000)
    assert limits(card) == [190.0]


def test_critical_power_is_no_limit(tree):
    """An Arc Pro B60: Syllo/nvtop issue 493."""
    card = tree.card(device="0xe211")
    card.hwmon(5, "xe", energy1_input=1, power1_cap=200_000_000, power1_crit=400_000_000)
    assert limits(card) == [200.0]


def test_limit_of_another_channel_is_not_that_of_the_counter(tree):
    card = tree.card()
    card.hwmon(1, "xe", energy1_label="card", energy1_input=1, power2_max=150_000_000)
    assert limits(card) == []


@pytest.mark.parametrize("text", ["", "garbage", "-5", "4294967295000000"])
def test_implausible_limits_are_ignored(tree, text):
    card = tree.card()
    card.hwmon(1, "i915", energy1_input=1, power1_max=text)
    assert limits(card) == []


def test_reload_of_the_driver_is_another_load(tree):
    card = tree.card()
    card.hwmon(1, "xe", energy1_input=1)
    before = find_counter(str(card.path))
    first = before.load_id
    card.path.joinpath("hwmon").rename(card.path / "gone")
    card.hwmon(1, "xe", energy1_input=1)
    assert first != find_counter(str(card.path)).load_id == before.load_id != ""


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("0x56a0", "Intel Arc A770"),
        ("0xe211", "Intel Arc Pro B60"),
        ("0x0bd5", "Intel Data Center GPU Max 1550"),
        ("0x56c1", "Intel Data Center GPU Flex 140"),
        ("0x1234", "Intel GPU 0x1234"),
        ("", "Intel GPU"),
    ],
)
def test_model_is_named_by_device_id(device, name):
    assert model_name(device) == name


def test_device_ids_are_in_the_form_of_sysfs():
    assert all(int(key, 16) and key == f"0x{int(key, 16):04x}" for key in MODELS)
