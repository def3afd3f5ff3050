"""Layouts of `gpu_metrics`, by compiling the kernel's own header, and bytes in these layouts.

`.ci/setup headers` fetches the headers from Debian's packages of the kernel source. `layouts.json`
is what this module made of them, so that tests without the headers have the kernel's offsets too.
It has those of linux-source-6.1 (6.1.192-3), linux-source-6.12 (6.12.117-1~deb12u1) and
linux-source-7.3 (7.3.4-1~bpo13+1).

    python -m tests.amdgpu.kernel build/linux/*/kgd_pp_interface.h
"""

import json
import re
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HEADERS = Path("build/linux")
HEADER = "kgd_pp_interface.h"
LAYOUTS = Path(__file__).with_name("layouts.json")
STRUCT = re.compile(
    r"^struct (gpu_metrics_v1_\d+|amdgpu_xcp_metrics\w*) \{(.*?)^\};", re.DOTALL | re.MULTILINE
)
MEMBER = re.compile(r"^\s*(?:struct )?(\w+)\s+(\w+)\s*(?:\[(\w+)\])?;", re.MULTILINE)
INCLUDE = re.compile(r"^#include <(.*)>", re.MULTILINE)
WIDTHS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}
PRELUDE = """\
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
typedef int8_t s8; typedef int16_t s16; typedef int32_t s32; typedef int64_t s64;
typedef uint16_t umode_t;
#define __packed __attribute__((packed))
#define BIT(n) (1UL << (n))
"""


def headers() -> list[Path]:
    """The headers of all kernels that are there."""
    return sorted(HEADERS.glob(f"*/{HEADER}"))


def members(header: str) -> dict[str, list[str]]:
    """The members of each structure of metrics, by its name."""
    found = {}
    for name, body in STRUCT.findall(header):
        without_comments = re.sub(r"/\*.*?\*/|//[^\n]*", "", body, flags=re.DOTALL)
        found[name] = [member for _, member, _ in MEMBER.findall(without_comments)]
    return found


def run(program: str, header: Path, directory: Path, name: str = "layout") -> bytes:
    """Compile a program that includes the header, and return its output."""
    source, binary, included = directory / f"{name}.c", directory / name, directory / "include"
    for file in INCLUDE.findall(header.read_text()):  # nothing of them is used by the layouts
        (included / file).parent.mkdir(parents=True, exist_ok=True)
        (included / file).touch()
    source.write_text(f'{PRELUDE}#include "{header.resolve()}"\n{program}')
    subprocess.run(["cc", "-w", "-I", included, "-o", binary, source], check=True)
    return subprocess.run([binary], check=True, capture_output=True).stdout


def layouts(header: Path, directory: Path) -> dict[str, Any]:
    """Size of each structure, and offset and size of its members, as the compiler has them."""
    lines = []
    for name, fields in members(header.read_text()).items():
        lines.append(f'printf("{name} - %zu 0\\n", sizeof(struct {name}));')
        lines += [
            f'printf("{name} {field} %zu %zu\\n", offsetof(struct {name}, {field}), '
            f"sizeof(((struct {name} *)0)->{field}));"
            for field in fields
            if field != "metrics_attrs"
        ]
    output = run(f"int main(void) {{ {' '.join(lines)} return 0; }}", header, directory).decode()
    found: dict[str, Any] = {}
    for line in output.splitlines():
        name, field, first, second = line.split()
        if field == "-":
            found[name] = {"size": int(first), "fields": {}}
        else:
            found[name]["fields"][field] = [int(first), int(second)]
    return found


def stored() -> dict[str, Any]:
    """The layouts of all structures, by kernel."""
    found: dict[str, Any] = {}
    for key, layout in json.loads(LAYOUTS.read_text()).items():
        kernel, name = key.split()
        found.setdefault(kernel, {})[name] = layout
    return found


def structs() -> dict[str, Any]:
    """The layouts of all structures that any of the kernels has."""
    found: dict[str, Any] = {}
    for _, layout in sorted(stored().items()):
        found |= layout
    return found


def filled(structure: Mapping[str, Any], revision: str, fields: Mapping[str, int]) -> bytearray:
    """Bytes of a structure as the kernel makes them: all ones, the header, and these fields.

    `structure` is an entry of `structs`. A field is a name, or a name and an index: `xcp_stats` has
    none, see `xcp_field`.
    """
    data = bytearray(b"\xff" * structure["size"])
    major, minor = (int(part) for part in revision.split("."))
    struct.pack_into("<HBB", data, 0, structure["size"], major, minor)
    for name, value in fields.items():
        offset, size = structure["fields"][name]
        struct.pack_into(WIDTHS[size], data, offset, value)
    return data


def put_xcp(
    data: bytearray,
    structs: Mapping[str, Any],
    revision: str,
    number: int,
    fields: Mapping[str, Iterable[int]],
) -> None:
    """Write the arrays of partition `number` into the bytes of a revision that has partitions."""
    element = structs[XCP[revision]]
    offset, _ = structs[f"gpu_metrics_v{revision.replace('.', '_')}"]["fields"]["xcp_stats"]
    for name, values in fields.items():
        start, size = element["fields"][name]
        width = 4 if name.endswith("inst") else 8
        at = offset + number * element["size"] + start
        for index, value in enumerate(values):
            assert (index + 1) * width <= size
            struct.pack_into(WIDTHS[width], data, at + index * width, value)


XCP = {
    "1.6": "amdgpu_xcp_metrics",
    "1.7": "amdgpu_xcp_metrics_v1_1",
    "1.8": "amdgpu_xcp_metrics_v1_2",
}
"""Structure of the elements of `xcp_stats`, by revision."""


def main(paths: Iterable[str]) -> None:
    """Write `layouts.json` from headers, whose folders are named for their packages."""
    import tempfile

    made = {}
    for path in map(Path, paths):
        with tempfile.TemporaryDirectory() as directory:
            made[path.parent.name] = layouts(path, Path(directory))
    lines = ",\n".join(
        f'"{kernel} {name}": {json.dumps(each, separators=(",", ":"))}'
        for kernel, structures in sorted(made.items())
        for name, each in sorted(structures.items())
    )
    LAYOUTS.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
