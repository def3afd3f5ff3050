"""Records of a run as files, written while it goes on, so that a lost node still leaves one."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any


def write(directory: str, record: Mapping[str, Any]) -> str:
    """Replace the run's file in a directory, which is made; its path. Raises OSError."""
    parts = [str(record[key]) for key in ("run_id", "job_id", "node") if record.get(key)]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(parts)).lstrip(".")[:200]
    path = os.path.join(directory, f"{name}.json")
    os.makedirs(directory, exist_ok=True)
    beside = f"{path}.{os.getpid()}.part"
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
    os.replace(beside, path)
    return path
