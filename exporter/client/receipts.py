"""Records of a run as files, written while it goes on, so that a lost node still leaves one."""

import json
import os
import re
import zlib
from collections.abc import Mapping
from typing import Any


def write_receipt(directory: str, record: Mapping[str, Any]) -> str:
    """Replace the run's file in a directory, which is made; its path. Raises OSError."""
    parts = [str(record[key]) for key in ("run_id", "job_id", "node") if record.get(key)]
    ids = "-".join(parts)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", ids).lstrip(".")[:200]
    if name != ids:  # a/b and a_b are two runs
        name += f"-{zlib.crc32(ids.encode(errors='surrogatepass')):08x}"
    path = os.path.join(directory, f"{name}.json")
    os.makedirs(directory, exist_ok=True)
    replace_json(path, record)
    return path


def replace_json(path: str, document: Mapping[str, Any]) -> None:
    """Write a document to a file that readers always see whole. Raises OSError."""
    beside = f"{path}.{os.getpid()}.part"
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
    os.replace(beside, path)
