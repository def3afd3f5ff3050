"""What a program wrote to files, as the kernel saw it, and what a power cut may leave of it.

`strace` records the system calls. What a file surely has after a power cut are its writes up to the
last fsync; of the later ones any may be missing, in any order, and any may be there in part. Files
appear, disappear and change their names in order, as with journaling filesystems.
"""

import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

CALLS = (
    *("openat", "pwrite64", "pwritev", "pwritev2", "write", "ftruncate", "fallocate"),
    *("fsync", "fdatasync", "rename", "unlink"),
)
CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+)")
FILE = re.compile(r"\d+<((?:\\x[0-9a-f]{2})*)>")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
SECTOR_BYTES = 512
UNSYNCED = "-shm"
"""SQLite's index of the write-ahead log is memory; it is made again."""


class Call(NamedTuple):
    """One system call that changed a file, or wrote to the standard output."""

    verb: str
    path: str
    data: bytes = b""
    offset: int = 0
    target: str = ""


def record(module: str, directory: Path) -> list[Call]:
    """Run a module of the tests with a directory as argument; its calls in there, in order."""
    log = directory.parent / "strace.log"
    subprocess.run(
        [
            *("strace", "-o", str(log), "-y", "-xx", "-s", "100000000"),
            *("-e", f"trace={','.join(CALLS)}", sys.executable, "-m", module, str(directory)),
        ],
        check=True,
        stdout=subprocess.PIPE,
    )
    lines = log.read_text(encoding="ascii").splitlines()
    calls = [call for line in lines for call in _calls(line, str(directory))]
    return [call for call in calls if not call.path.endswith(UNSYNCED)]


def _calls(line: str, directory: str) -> Iterator[Call]:
    found = CALL.match(line)
    if found is None or int(found[3]) < 0:
        return
    verb, arguments = found[1], found[2]
    texts = [bytes.fromhex(text.replace("\\x", "")) for text in TEXT.findall(arguments)]
    if verb in ("rename", "unlink"):
        paths = [text.decode() for text in texts]
        if paths[0].startswith(directory):
            yield Call(verb, paths[0], target=paths[-1])
        return
    if verb == "openat":
        path = texts[0].decode()
        if path.startswith(directory) and "O_CREAT" in arguments:
            yield Call("truncate" if "O_TRUNC" in arguments else "create", path)
        return
    file = FILE.match(arguments)
    path = bytes.fromhex(file[1].replace("\\x", "")).decode() if file else ""
    if verb == "write" and arguments.startswith("1<"):
        yield Call("say", "", texts[0])
    elif path.startswith(directory):
        numbers = [int(each) for each in re.findall(r"-?\d+", arguments.rpartition('"')[2])]
        if verb in ("ftruncate", "fallocate"):
            length = int(arguments.rsplit(",", 1)[1])
            yield Call("resize" if verb == "ftruncate" else "extend", path, offset=length)
        elif verb in ("fsync", "fdatasync"):
            yield Call("sync", path)
        else:
            assert verb != "write", line
            # `pwritev2` has flags after the offset.
            yield Call("write", path, b"".join(texts), numbers[-2 if verb == "pwritev2" else -1])


class Disk:
    """Files after the first calls."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls

    def survivors(self, rng: random.Random | None) -> dict[str, bytes]:
        """Files after a power cut; with no generator, nothing that was not synced is there."""
        durable = self._durable()
        kept = []
        names_last = True
        for place, call in enumerate(self._calls):
            if call.verb in ("create", "truncate", "rename", "unlink"):
                # Changes of names are kept in order, up to some point after the last sync.
                names_last = names_last and (
                    place in durable or (rng is not None and rng.random() < 0.7)
                )
                if names_last:
                    kept.append(call)
            elif call.verb in ("write", "resize", "extend"):
                if place in durable:
                    kept.append(call)
                elif rng is not None and rng.random() < 0.5:
                    kept.append(_torn(call, rng))
        return files(kept)

    def _durable(self) -> set[int]:
        """Places of the calls whose effect a sync has made durable."""
        durable: set[int] = set()
        open_: dict[str, list[int]] = {}
        names: list[int] = []
        for place, call in enumerate(self._calls):
            if call.verb == "sync":
                durable.update(open_.pop(call.path, ()))
                durable.update(names)
                names = []
            elif call.verb == "rename":
                open_[call.target] = open_.pop(call.path, [])
                names.append(place)
            elif call.verb in ("create", "truncate", "unlink"):
                names.append(place)
            else:
                open_.setdefault(call.path, []).append(place)
        return durable


def _torn(call: Call, rng: random.Random) -> Call:
    """The call, or only some of the sectors of its write from the start."""
    if call.verb != "write" or rng.random() < 0.5:
        return call
    sectors = rng.randrange(1 + len(call.data) // SECTOR_BYTES)
    return call._replace(data=call.data[: sectors * SECTOR_BYTES])


def files(calls: Sequence[Call]) -> dict[str, bytes]:
    """Content by path after these calls."""
    found: dict[str, bytearray] = {}
    for call in calls:
        if call.verb == "truncate":
            found[call.path] = bytearray()
        elif call.verb == "create":
            found.setdefault(call.path, bytearray())
        elif call.verb == "unlink":
            found.pop(call.path, None)
        elif call.verb == "rename":
            if call.path in found:
                found[call.target] = found.pop(call.path)
        elif call.verb in ("write", "resize", "extend") and call.path in found:
            _change(found[call.path], call)
    return {path: bytes(content) for path, content in found.items()}


def _change(content: bytearray, call: Call) -> None:
    end = call.offset + len(call.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    if call.verb == "write":
        content[call.offset : end] = call.data
    elif call.verb == "resize":
        del content[end:]


def lay_out(found: dict[str, bytes], from_directory: Path, directory: Path) -> Path:
    """Write files into a new directory, in place of another one."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    for path, content in found.items():
        (directory / Path(path).relative_to(from_directory)).write_bytes(content)
    return directory
