"""Decoder of the binary file `gpu_metrics` of the amdgpu kernel driver.

Layouts: `drivers/gpu/drm/amd/include/kgd_pp_interface.h` of Linux. The file begins with its size in
bytes (u16), a format revision and a content revision (u8 each); all numbers are little-endian.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

MAX_BYTES = 16_384
"""More than any revision has; the file must be read by one call."""
ENERGY_UNIT_UJ = (15_625, 1_024)
"""Microjoules per count, as a fraction: 2^-16 J, exactly."""
FIRMWARE_TICK_NS = 10
PERCENT = 100
MAX_PARTITIONS = 8
MAX_XCCS = 8
"""Accelerator complex dies (XCC) that a partition may have."""


class UnknownRevision(ValueError):
    """The content of the file has a revision or a size that this decoder does not know."""


class PartitionBusy(NamedTuple):
    """Activity of one compute partition."""

    mean: float | None
    """Mean utilization of its XCCs at the time of the read, 0 to 1; None: not reported."""
    accumulated: float | None
    """Percent of utilization, added up once per `GpuMetrics.accumulations`; mean of its XCCs."""


class GpuMetrics(NamedTuple):
    """The decoded values; None: not reported by this GPU."""

    revision: str
    energy_uj: int | None = None
    """Energy since the driver was loaded or the GPU was reset."""
    power_watts: float | None = None
    utilization: float | None = None
    """Utilization of the graphics and compute engine, 0 to 1."""
    driver_ns: int | None = None
    """CLOCK_BOOTTIME at which the kernel driver filled the table."""
    firmware_ns: int | None = None
    """Time of the values on the clock of the GPU's firmware, which counts from its start."""
    accumulations: int | None = None
    """Number of times that accumulated values were added up."""
    partitions: tuple[PartitionBusy, ...] = ()
    """By number of the partition; empty if the revision does not report them."""
    why: str = ""
    """Why there are no values, if the model has the file."""


class _Field(NamedTuple):
    """Offset and format (of `struct`) of a number."""

    offset: int
    format: str


class _Partitions(NamedTuple):
    """Layout of `xcp_stats`, the activity of the partitions."""

    number: int
    """Offset of the number of partitions."""
    offset: int
    stride: int
    accumulated: int
    """Offset of `gfx_busy_acc` in an element; `gfx_busy_inst` is its first field."""


class Layout(NamedTuple):
    """Layout of one revision: its size, and its fields by their name in the kernel's header."""

    size: int
    fields: Mapping[str, _Field]
    partitions: _Partitions | None = None


U16, U32, U64 = "H", "I", "Q"
_V1_1 = {
    "average_gfx_activity": _Field(16, U16),
    "average_socket_power": _Field(22, U16),
    "energy_accumulator": _Field(24, U64),
    "system_clock_counter": _Field(32, U64),
}
_V1_2 = {**_V1_1, "firmware_timestamp": _Field(96, U64)}


def _instinct(energy: int, firmware: int, accumulations: int | None = None) -> dict[str, _Field]:
    """Return the fields of MI300 and later; the kernel's time follows the energy."""
    fields = {
        "curr_socket_power": _Field(10, U16),
        "average_gfx_activity": _Field(12, U16),
        "energy_accumulator": _Field(energy, U64),
        "system_clock_counter": _Field(energy + 8, U64),
        "firmware_timestamp": _Field(firmware, U64),
    }
    if accumulations is not None:
        fields["accumulation_counter"] = _Field(accumulations, U32)
    return fields


LAYOUTS: Mapping[tuple[int, int], Layout] = MappingProxyType(
    {
        (1, 0): Layout(
            80,
            {  # its energy counter has 32 bits, and wraps within minutes
                "system_clock_counter": _Field(8, U64),
                "average_gfx_activity": _Field(28, U16),
                "average_socket_power": _Field(34, U16),
            },
        ),
        (1, 1): Layout(96, _V1_1),
        (1, 2): Layout(104, _V1_2),
        (1, 3): Layout(120, _V1_2),
        (1, 4): Layout(288, _instinct(24, 232)),
        (1, 5): Layout(360, _instinct(88, 304)),
        (1, 6): Layout(1664, _instinct(16, 256, 32), _Partitions(306, 312, 168, 104)),
        (1, 7): Layout(2208, _instinct(24, 288, 40), _Partitions(338, 344, 232, 104)),
        (1, 8): Layout(3872, _instinct(24, 288, 40), _Partitions(338, 344, 440, 120)),
    }
)
"""Layouts with fixed offsets, by format and content revision."""
ATTRIBUTES = (1, 9)
"""Revision that is a list of attributes."""
ATTRIBUTE_NAMES = MappingProxyType(
    {
        3: "curr_socket_power",
        4: "average_gfx_activity",
        7: "energy_accumulator",
        8: "system_clock_counter",
        9: "accumulation_counter",
        32: "firmware_timestamp",
        38: "num_partition",
        40: "gfx_busy_inst",
        43: "gfx_busy_acc",
    }
)
"""Names of the attributes that are read, by `enum amdgpu_metrics_attr_id`."""
ATTRIBUTE_TYPES = "BbHhIiQq"
"""Formats of `struct`, in the order of `enum amdgpu_metrics_attr_type`."""
APU_FORMATS = (2, 3)
IS_APU = "revision {revision} is that of an APU, whose energy the processor's counter includes"


def decode_gpu_metrics(data: bytes) -> GpuMetrics:
    """Decode the content of the file.

    Raises UnknownRevision if it cannot be decoded with certainty.
    """
    if len(data) < 4:
        raise UnknownRevision(f"gpu_metrics has {len(data)} bytes, which is less than its header")
    size, major, minor = struct.unpack_from("<HBB", data)
    revision = f"{major}.{minor}"
    if major in APU_FORMATS:
        raise UnknownRevision(IS_APU.format(revision=revision))
    if size > len(data):
        raise UnknownRevision(
            f"gpu_metrics of revision {revision} ends after {len(data)} of {size} bytes"
        )
    if (major, minor) == ATTRIBUTES:
        values = _attributes(data[:size])
        return _metrics(revision, values, _attribute_partitions(values))
    layout = LAYOUTS.get((major, minor))
    if layout is None:
        raise UnknownRevision(f"revision {revision} of gpu_metrics is not known")
    if layout.size != size:
        raise UnknownRevision(
            f"gpu_metrics of revision {revision} has {size} bytes instead of {layout.size}"
        )
    fixed = {
        name: _numbers(data, field.format, field.offset) for name, field in layout.fields.items()
    }
    partitions = _fixed_partitions(data, layout.partitions) if layout.partitions else ()
    return _metrics(revision, fixed, partitions)


Values = Mapping[str, Sequence[int | None]]
"""Numbers by name of the field; None: not reported."""


def _metrics(revision: str, values: Values, partitions: tuple[PartitionBusy, ...]) -> GpuMetrics:
    def value(name: str) -> int | None:
        return next(iter(values.get(name, ())), None)

    count, divisor = ENERGY_UNIT_UJ
    energy, ticks = value("energy_accumulator"), value("firmware_timestamp")
    # 0 also marks missing values: no card that can be read draws no power.
    return GpuMetrics(
        revision,
        energy_uj=energy * count // divisor if energy else None,
        power_watts=value("curr_socket_power") or value("average_socket_power") or None,
        utilization=_ratio(value("average_gfx_activity")),
        driver_ns=value("system_clock_counter") or None,
        firmware_ns=ticks * FIRMWARE_TICK_NS if ticks else None,
        accumulations=value("accumulation_counter"),
        partitions=partitions,
    )


def _ratio(percent: float | None) -> float | None:
    """Convert a percentage to a ratio; None if it is implausible, as some boards report."""
    return percent / PERCENT if percent is not None and 0 <= percent <= PERCENT else None


def _numbers(data: bytes, kind: str, offset: int, count: int = 1) -> list[int | None]:
    """Return numbers of a type; None for all ones, by which the driver marks missing values."""
    all_ones = (1 << 8 * struct.calcsize(kind)) - 1
    numbers = struct.unpack_from(f"<{count}{kind}", data, offset)
    return [number if 0 <= number < all_ones else None for number in numbers]


def _fixed_partitions(data: bytes, layout: _Partitions) -> tuple[PartitionBusy, ...]:
    (count,) = _numbers(data, U16, layout.number)
    return tuple(
        _busy(
            _numbers(data, U32, layout.offset + index * layout.stride, MAX_XCCS),
            _numbers(
                data, U64, layout.offset + index * layout.stride + layout.accumulated, MAX_XCCS
            ),
        )
        for index in range(min(count or 0, MAX_PARTITIONS))
    )


def _busy(instant: Sequence[int | None], accumulated: Sequence[int | None]) -> PartitionBusy:
    """Return the means over the XCCs that exist; the others are marked as missing."""
    return PartitionBusy(_ratio(_mean(instant)), _mean(accumulated))


def _mean(numbers: Sequence[int | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None


def _attributes(data: bytes) -> dict[str, list[int | None]]:
    """Decode the attributes of revision 1.9: each has an encoding (u64) and its packed values.

    Bits of the encoding: number of values 0 to 9, id 10 to 19, type 20 to 23, unit 24 to 31.
    """
    if len(data) < 8:
        raise UnknownRevision("gpu_metrics of revision 1.9 ends within its header")
    (count,) = struct.unpack_from("<i", data, 4)
    values: dict[str, list[int | None]] = {}
    for identifier, numbers in _each_attribute(data, count):
        name = ATTRIBUTE_NAMES.get(identifier)
        if name is not None:
            values[name] = numbers
    return values


def _each_attribute(data: bytes, count: int) -> Iterator[tuple[int, list[int | None]]]:
    offset = 8
    for _ in range(count):
        if offset + 8 > len(data):
            raise UnknownRevision("gpu_metrics of revision 1.9 ends within its attributes")
        (encoding,) = struct.unpack_from("<Q", data, offset)
        instances, identifier, kind = encoding & 0x3FF, encoding >> 10 & 0x3FF, encoding >> 20 & 0xF
        if kind >= len(ATTRIBUTE_TYPES):
            raise UnknownRevision(f"attribute {identifier} of gpu_metrics has unknown type {kind}")
        offset += 8
        end = offset + instances * struct.calcsize(ATTRIBUTE_TYPES[kind])
        if end > len(data):
            raise UnknownRevision("gpu_metrics of revision 1.9 ends within its attributes")
        yield identifier, _numbers(data, ATTRIBUTE_TYPES[kind], offset, instances)
        offset = end


def _attribute_partitions(values: Values) -> tuple[PartitionBusy, ...]:
    """Return the activity of the partitions, among which the XCCs are divided in order."""
    count = next(iter(values.get("num_partition", ())), None)
    instant, accumulated = values.get("gfx_busy_inst", ()), values.get("gfx_busy_acc", ())
    xccs = sum(number is not None for number in instant)
    if not count or not xccs or xccs % count:
        return ()
    each = xccs // count
    return tuple(
        _busy(instant[start : start + each], accumulated[start : start + each])
        for start in range(0, xccs, each)
    )
