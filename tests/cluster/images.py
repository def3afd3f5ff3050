"""Images of containers, in the format of `docker save`."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path


def write_image(path: Path, name: str, files: Mapping[str, Path | str], entry: str) -> None:
    """Write an image in the format of `docker save`; a text is the target of a symbolic link."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        for directory in ("bin", "dev", "etc", "proc", "sys", "tmp"):
            entry_of = tarfile.TarInfo(directory)
            entry_of.type, entry_of.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry_of)
        for target, source in files.items():
            member = tarfile.TarInfo(target)
            member.mode = 0o755
            if isinstance(source, str):
                member.type, member.linkname = tarfile.SYMTYPE, source
                archive.addfile(member)
            else:
                content = source.read_bytes()
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [entry], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        for member_name, content in (
            ("layer.tar", layer.getvalue()),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(member_name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
