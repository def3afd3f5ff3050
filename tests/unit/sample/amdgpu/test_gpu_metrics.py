"""The decoder of `gpu_metrics`, compared with the layouts of the kernel's header."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.sample.sources.amdgpu.gpu_metrics import (
    LAYOUTS,
    GpuMetrics,
    UnknownRevision,
    decode_gpu_metrics,
)
from tests.amdgpu.host import attributes, counts
from tests.amdgpu.kernel import XCP, filled, put_xcp, stored, structs

REVISIONS = [f"{major}.{minor}" for major, minor in LAYOUTS]
WITH_COUNTER = [revision for revision in REVISIONS if revision != "1.0"]


def structure_name(revision):
    return f"gpu_metrics_v{revision.replace('.', '_')}"


def show(revision, **fields):
    """Bytes of a revision with these fields, as the kernel fills them: all others are all ones."""
    return filled(structs()[structure_name(revision)], revision, fields)


def power_field(revision):
    fields = structs()[structure_name(revision)]["fields"]
    return "curr_socket_power" if "curr_socket_power" in fields else "average_socket_power"


def layout_of(revision):
    return LAYOUTS[tuple(int(part) for part in revision.split("."))]


class TestLayouts:
    @pytest.mark.parametrize("revision", REVISIONS)
    def test_size_is_that_of_the_kernel(self, revision):
        assert layout_of(revision).size == structs()[structure_name(revision)]["size"]

    @pytest.mark.parametrize("revision", REVISIONS)
    def test_each_field_is_where_the_kernel_has_it(self, revision):
        fields = structs()[structure_name(revision)]["fields"]
        for name, (offset, kind) in layout_of(revision).fields.items():
            assert [offset, struct.calcsize(kind)] == fields[name], name

    @pytest.mark.parametrize("revision", sorted(XCP))
    def test_partitions_are_where_the_kernel_has_them(self, revision):
        found, layout = structs(), layout_of(revision).partitions
        fields = found[structure_name(revision)]["fields"]
        element = found[XCP[revision]]
        assert layout.number == fields["num_partition"][0]
        assert layout.offset == fields["xcp_stats"][0]
        assert layout.stride == element["size"] == fields["xcp_stats"][1] // 8
        assert element["fields"]["gfx_busy_inst"] == [0, 4 * 8]
        assert element["fields"]["gfx_busy_acc"] == [layout.accumulated, 8 * 8]

    def test_kernels_agree_on_what_several_of_them_have(self):
        for kernel, layout in stored().items():
            for name, each in layout.items():
                assert each == structs()[name], (kernel, name)

    def test_every_structure_of_discrete_gpus_is_known(self):
        named = {name for name in structs() if name.startswith("gpu_metrics_v1_")}
        assert named - {"gpu_metrics_v1_9"} == {structure_name(revision) for revision in REVISIONS}


class TestValues:
    @pytest.mark.parametrize("revision", WITH_COUNTER)
    def test_all_values_are_decoded(self, revision):
        shown = {
            power_field(revision): 321,
            "average_gfx_activity": 45,
            "energy_accumulator": counts(123_456_789),
            "system_clock_counter": 987_654_321_000,
        }
        has_time = "firmware_timestamp" in structs()[structure_name(revision)]["fields"]
        shown |= {"firmware_timestamp": 77} if has_time else {}
        metrics = decode_gpu_metrics(bytes(show(revision, **shown)))
        assert metrics.revision == revision
        assert metrics.power_watts == 321
        assert metrics.utilization == 0.45
        assert metrics.energy_uj == 123_456_789_000_000
        assert metrics.driver_ns == 987_654_321_000
        assert metrics.firmware_ns == (770 if has_time else None)

    @pytest.mark.parametrize("revision", REVISIONS)
    def test_all_ones_are_not_values(self, revision):
        assert decode_gpu_metrics(bytes(show(revision))) == GpuMetrics(revision)

    @pytest.mark.parametrize("revision", WITH_COUNTER)
    def test_counter_and_power_of_0_are_not_values(self, revision):
        """As of the secondary die of MI250, and of Radeons without a counter."""
        shown = show(revision, energy_accumulator=0, **{power_field(revision): 0})
        metrics = decode_gpu_metrics(bytes(shown))
        assert (metrics.energy_uj, metrics.power_watts) == (None, None)

    def test_unit_is_two_to_the_minus_sixteen_joules_exactly(self):
        metrics = decode_gpu_metrics(bytes(show("1.3", energy_accumulator=2**16)))
        assert metrics.energy_uj == 1_000_000

    def test_counter_of_vega_20_has_32_bits_and_is_not_used(self):
        metrics = decode_gpu_metrics(
            bytes(show("1.0", energy_accumulator=5, average_socket_power=180))
        )
        assert (metrics.energy_uj, metrics.power_watts) == (None, 180)

    @pytest.mark.parametrize("percent", [101, 655])
    def test_implausible_utilization_is_not_a_value(self, percent):
        """MangoHud pull request 1998 shows 655 % of a board."""
        metrics = decode_gpu_metrics(bytes(show("1.3", average_gfx_activity=percent)))
        assert metrics.utilization is None

    def test_bytes_after_the_table_are_ignored(self):
        metrics = decode_gpu_metrics(bytes(show("1.3", average_socket_power=90)) + b"\0" * 50)
        assert metrics.power_watts == 90

    @pytest.mark.parametrize(
        ("fields", "energy_uj", "watts"),
        [
            # Navi 10, Linux 5.15: Ricks-Lab/gpu-utils issue 122
            ({"average_socket_power": 12, "system_clock_counter": 0x2E9C5759D634}, None, 12),
            # RX 9070: ollama issue 9633
            ({"average_socket_power": 20, "energy_accumulator": 0}, None, 20),
            # MI100 after its driver was loaded: ROCm/amdsmi issue 38. The library shows
            # 1,004,108 uJ, by a unit that is too large by 0.27 %.
            ({"energy_accumulator": 65_628}, 1_001_403, None),
            # MI250X: wandb pull request 5449
            ({"energy_accumulator": 14_610_425_995_231}, 222_937_408_374_496, None),
        ],
    )
    def test_values_that_cards_have_shown(self, fields, energy_uj, watts):
        metrics = decode_gpu_metrics(bytes(show("1.3", **fields)))
        assert (metrics.energy_uj, metrics.power_watts) == (energy_uj, watts)


class TestPartitions:
    @pytest.mark.parametrize("revision", sorted(XCP))
    def test_activity_is_the_mean_of_the_dies_that_a_partition_has(self, revision):
        data = show(revision, num_partition=2, accumulation_counter=1000)
        put_xcp(data, structs(), revision, 0, {"gfx_busy_inst": [100, 50], "gfx_busy_acc": [9, 7]})
        put_xcp(data, structs(), revision, 1, {"gfx_busy_inst": [0, 10], "gfx_busy_acc": [0, 2]})
        metrics = decode_gpu_metrics(bytes(data))
        assert metrics.partitions == ((0.75, 8), (0.05, 1))
        assert metrics.accumulations == 1000

    def test_revisions_before_have_none(self):
        assert decode_gpu_metrics(bytes(show("1.5"))).partitions == ()

    def test_partition_without_activity_has_none(self):
        data = bytes(show("1.6", num_partition=1))
        assert decode_gpu_metrics(data).partitions == ((None, None),)


U16, U32, U64 = (2, "H"), (4, "I"), (6, "Q")
POWER, ACTIVITY, ENERGY, CLOCK, FIRMWARE, PARTITIONS, BUSY, BUSY_ACC = 3, 4, 7, 8, 32, 38, 40, 43
HOTSPOT = 0


def attribute(number, kind, *values):
    return 0, kind[0], number, kind[1], list(values)


class TestAttributes:
    def test_values_are_decoded_wherever_they_are(self):
        data = attributes(
            attribute(HOTSPOT, U16, 51),
            attribute(POWER, U16, 700),
            attribute(ACTIVITY, U16, 98),
            attribute(ENERGY, U64, counts(1_000_000)),
            attribute(CLOCK, U64, 5_000_000_000),
            attribute(FIRMWARE, U64, 12),
            attribute(999, U64, 1, 2, 3),
        )
        metrics = decode_gpu_metrics(data)
        assert metrics == GpuMetrics("1.9", 1_000_000_000_000, 700, 0.98, 5_000_000_000, 120)

    def test_dies_are_divided_among_the_partitions(self):
        data = attributes(
            attribute(PARTITIONS, U16, 2),
            attribute(BUSY, U32, 10, 30, 50, 70, *[2**32 - 1] * 4),
            attribute(BUSY_ACC, U64, 1, 3, 5, 7, *[2**64 - 1] * 4),
        )
        assert decode_gpu_metrics(data).partitions == ((0.2, 2), (0.6, 6))

    def test_all_ones_are_not_values(self):
        data = attributes(attribute(ENERGY, U64, 2**64 - 1), attribute(POWER, U16, 2**16 - 1))
        assert decode_gpu_metrics(data) == GpuMetrics("1.9")

    @pytest.mark.parametrize("length", [6, 12, 20])
    def test_cut_list_is_an_error(self, length):
        data = bytearray(attributes(attribute(ENERGY, U64, 1), attribute(POWER, U16, 2))[:length])
        struct.pack_into("<H", data, 0, length)
        with pytest.raises(UnknownRevision, match=r"revision 1\.9 ends within"):
            decode_gpu_metrics(bytes(data))

    def test_unknown_type_is_an_error(self):
        data = struct.pack("<HBBiQ", 16, 1, 9, 1, 9 << 20 | ENERGY << 10 | 1)
        with pytest.raises(UnknownRevision, match="attribute 7 of gpu_metrics has unknown type 9"):
            decode_gpu_metrics(data)


class TestUnknownRevisions:
    def test_unknown_revision_is_an_error(self):
        with pytest.raises(UnknownRevision, match=r"revision 1\.99 of gpu_metrics is not known"):
            decode_gpu_metrics(struct.pack("<HBB", 8, 1, 99) + b"\0" * 4)

    def test_another_size_is_an_error(self):
        """A development kernel had another layout of 1.6, in which the counter is elsewhere."""
        data = bytearray(show("1.6"))
        struct.pack_into("<H", data, 0, len(data) - 8)
        with pytest.raises(UnknownRevision, match=r"1\.6 has 1656 bytes instead of 1664"):
            decode_gpu_metrics(bytes(data))

    @pytest.mark.parametrize("revision", ["2.1", "2.4", "3.0"])
    def test_apu_is_an_error_with_its_reason(self, revision):
        major, minor = (int(part) for part in revision.split("."))
        with pytest.raises(UnknownRevision, match="that of an APU"):
            decode_gpu_metrics(struct.pack("<HBB", 100, major, minor) + b"\1" * 96)

    def test_cut_file_is_an_error(self):
        with pytest.raises(UnknownRevision, match="ends after 100 of 120 bytes"):
            decode_gpu_metrics(bytes(show("1.3"))[:100])

    @pytest.mark.parametrize("data", [b"", b"\x78\0\1"])
    def test_file_without_a_header_is_an_error(self, data):
        with pytest.raises(UnknownRevision, match="less than its header"):
            decode_gpu_metrics(data)

    @given(st.binary(max_size=200), st.sampled_from([(1, 3), (1, 9), (2, 1), None]))
    def test_any_bytes_are_decoded_or_rejected(self, data, revision):
        if revision is not None:
            data = struct.pack("<HBB", min(len(data) + 4, 200), *revision) + data
        try:
            metrics = decode_gpu_metrics(data)
        except UnknownRevision:
            return
        assert metrics.energy_uj is None or metrics.energy_uj > 0
