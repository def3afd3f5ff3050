"""Receipts: records of a run as files, written during the run so that they survive a node loss."""

import json
import os
import re
import zlib
from collections.abc import Mapping
from typing import Any

from exporter.client.atomic_file import replace_file


def write_receipt(directory: str, record: Mapping[str, Any]) -> str:
    """Write the run's file to a directory, which is created; return its path. Raises OSError."""
    parts = [str(record[key]) for key in ("run_id", "job_id", "node") if record.get(key)]
    ids = "-".join(parts)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", ids).lstrip(".")[:200]
    if name != ids:  # a/b and a_b are different runs
        name += f"-{zlib.crc32(ids.encode(errors='surrogatepass')):08x}"
    path = os.path.join(directory, f"{name}.json")
    os.makedirs(directory, exist_ok=True)
    replace_json(path, record)
    return path


def replace_json(path: str, document: Mapping[str, Any]) -> None:
    """Replace a JSON file atomically. Raises OSError."""
    replace_file(path, f"{json.dumps(document, indent=2)}\n")
