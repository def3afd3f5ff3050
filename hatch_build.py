"""Records the revision of a clone in wheels and source distributions that are built from it."""

import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class RevisionHook(BuildHookInterface):
    """Adds the file from which `exporter.revision` reads; in an editable package git is asked."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file where the revision is known and the source has none yet."""
        module = runpy.run_path(str(Path(self.root, "exporter", "revision.py")))
        known = module["build_revision"]() or module["git_revision"](self.root)
        if version == "editable" or not known:
            return
        self._room = tempfile.TemporaryDirectory()
        file = Path(self._room.name, "revision")
        file.write_text(f"{known}\n", encoding="utf-8")
        build_data["force_include"][str(file)] = f"exporter/{module['REVISION_FILE']}"
