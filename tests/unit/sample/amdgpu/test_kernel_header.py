"""The stored layouts, and the decoder, against the kernel's header, compiled here."""

import shutil

import pytest

from exporter.sample.sources.amdgpu.gpu_metrics import (
    ATTRIBUTE_NAMES,
    ATTRIBUTE_TYPES,
    decode_gpu_metrics,
)
from tests.amdgpu.kernel import headers, layouts, members, run, structs

pytestmark = pytest.mark.real
FIELDS = """\
    m.{power} = 417;
    m.average_gfx_activity = 64;
    m.energy_accumulator = 0x123456789abULL;
    m.system_clock_counter = 111222333444ULL;
"""
PROGRAM = """\
int main(void) {{
    struct {name} m;
    memset(&m, 0xff, sizeof m);
    m.common_header.structure_size = sizeof m;
    m.common_header.format_revision = {major};
    m.common_header.content_revision = {minor};
{fields}
    fwrite(&m, sizeof m, 1, stdout);
    return 0;
}}
"""
STREAM = """\
#define MEMBER(type, name, count) u64 name##_ftype; type name[count];
struct __packed stream {
    struct metrics_table_header header;
    int attr_count;
    MEMBER(u16, power, 1)
    MEMBER(u64, energy, 1)
    MEMBER(u64, clock, 1)
    MEMBER(u64, firmware, 1)
    MEMBER(u16, partitions, 1)
    MEMBER(u32, busy, 8)
};
#define ENCODE(unit, type, id, count) AMDGPU_METRICS_ENC_ATTR( \\
    AMDGPU_METRICS_UNIT_##unit, AMDGPU_METRICS_TYPE_##type, AMDGPU_METRICS_ATTR_ID_##id, count)
int main(void) {
    struct stream m = {{sizeof m, 1, 9}, 6,
        ENCODE(POWER_1, U16, CURR_SOCKET_POWER, 1), {417},
        ENCODE(NONE, U64, ENERGY_ACCUMULATOR, 1), {0x123456789abULL},
        ENCODE(TIME_1, U64, SYSTEM_CLOCK_COUNTER, 1), {111222333444ULL},
        ENCODE(TIME_2, U64, FIRMWARE_TIMESTAMP, 1), {55},
        ENCODE(NONE, U16, NUM_PARTITION, 1), {2},
        ENCODE(PERCENT, U32, GFX_BUSY_INST, 8), {10, 20, 30, 40, -1, -1, -1, -1},
    };
    fwrite(&m, sizeof m, 1, stdout);
    return 0;
}
"""
ENERGY_UJ = 0x123456789AB * 15_625 // 1_024


@pytest.fixture(params=headers(), ids=lambda path: path.parent.name)
def header(request):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler; apt-get install gcc libc6-dev")
    return request.param


def test_headers_are_there():
    if not headers():
        pytest.skip("no header of the kernel; .ci/setup headers")


def test_stored_layouts_are_those_of_the_header(header, tmp_path):
    """A structure that is not stored is of a later kernel: `python -m tests.amdgpu.kernel`."""
    for name, layout in layouts(header, tmp_path).items():
        assert layout == structs().get(name), name


def test_bytes_that_the_kernel_writes_are_decoded(header, tmp_path):
    found = members(header.read_text())
    names = [name for name in found if name.startswith("gpu_metrics_v1_")]
    for name in names:
        minor = int(name.rpartition("_")[2])
        if minor in (0, 9):  # without a usable counter; a list, see below
            continue
        kind = "curr" if "curr_socket_power" in found[name] else "average"
        fields = FIELDS.format(power=f"{kind}_socket_power")
        has_time = "firmware_timestamp" in found[name]
        fields += "    m.firmware_timestamp = 55;\n" if has_time else ""
        if "xcp_stats" in found[name]:
            fields += "    m.num_partition = 2; m.accumulation_counter = 9;\n"
            fields += "    m.xcp_stats[1].gfx_busy_inst[0] = 20;\n"
            fields += "    m.xcp_stats[1].gfx_busy_acc[0] = 12345;\n"
        program = PROGRAM.format(name=name, major=1, minor=minor, fields=fields)
        metrics = decode_gpu_metrics(run(program, header, tmp_path, name))
        assert metrics.revision == f"1.{minor}"
        assert metrics.power_watts == 417
        assert metrics.utilization == 0.64
        assert metrics.energy_uj == ENERGY_UJ
        assert metrics.driver_ns == 111_222_333_444
        assert metrics.firmware_ns == (550 if has_time else None)
        if "xcp_stats" in found[name]:
            assert metrics.partitions == ((None, None), (0.2, 12_345))
            assert metrics.accumulations == 9


def test_attributes_that_the_kernel_encodes_are_decoded(header, tmp_path):
    text = header.read_text()
    if "AMDGPU_METRICS_ATTR_ID_" not in text:
        pytest.skip("this kernel does not have revision 1.9")
    metrics = decode_gpu_metrics(run(STREAM, header, tmp_path))
    assert (metrics.power_watts, metrics.energy_uj) == (417, ENERGY_UJ)
    assert (metrics.driver_ns, metrics.firmware_ns) == (111_222_333_444, 550)
    assert metrics.partitions == ((0.15, None), (0.35, None))


def test_attributes_have_the_numbers_of_the_kernel(header, tmp_path):
    if "AMDGPU_METRICS_ATTR_ID_" not in header.read_text():
        pytest.skip("this kernel does not have revision 1.9")
    names = [name.upper() for name in ATTRIBUTE_NAMES.values()]
    prints = "".join(f'printf("%d ", AMDGPU_METRICS_ATTR_ID_{name});' for name in names)
    kinds = [("S" if kind.islower() else "U") for kind in ATTRIBUTE_TYPES]
    widths = [8, 8, 16, 16, 32, 32, 64, 64]
    prints += "".join(
        f'printf("%d ", AMDGPU_METRICS_TYPE_{kind}{width});'
        for kind, width in zip(kinds, widths, strict=True)
    )
    numbers = run(f"int main(void) {{ {prints} return 0; }}", header, tmp_path).split()
    assert [int(number) for number in numbers] == [*ATTRIBUTE_NAMES, *range(8)]
