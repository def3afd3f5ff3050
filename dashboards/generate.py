"""Writes generated/ from the *.dashboard.py beside this file.

That is a JSON file of each, and a kustomization that makes ConfigMaps for the sidecar of Grafana.
`--check` writes nothing and fails if a file is not what would be written.
"""

import argparse
import io
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from grafanalib._gen import write_dashboard

HERE = Path(__file__).resolve().parent
GENERATED = HERE / "generated"
SUFFIX = ".dashboard.py"
KUSTOMIZATION = """\
# Made by dashboards/generate.py. kubectl apply --namespace monitoring -k dashboards/generated
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
generatorOptions:
  disableNameSuffixHash: true
  labels:
    grafana_dashboard: "1"
  annotations:
    grafana_folder: Emissions
configMapGenerator:
"""
ENTRY = """\
- name: emissions-dashboard-{name}
  files: [emissions-{name}.json={name}.json]
"""


def pages() -> dict[Path, str]:
    """Each file that should be there, and its text."""
    made = {}
    names = [source.name.removesuffix(SUFFIX) for source in sorted(HERE.glob(f"*{SUFFIX}"))]
    for name in names:
        text = io.StringIO()
        write_dashboard(runpy.run_path(str(HERE / f"{name}{SUFFIX}"))["dashboard"], text)
        made[GENERATED / f"{name}.json"] = text.getvalue()
    entries = "".join(ENTRY.format(name=name) for name in names)
    made[GENERATED / "kustomization.yaml"] = KUSTOMIZATION + entries
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or check them; the answer is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    options = parser.parse_args(arguments)
    wanted = pages()
    found = {path: path.read_text(encoding="utf-8") for path in GENERATED.glob("*")}
    stale = sorted(path for path in wanted | found if wanted.get(path) != found.get(path))
    if options.check and stale:
        names = ", ".join(f"dashboards/generated/{path.name}" for path in stale)
        print(f"{names}: not made from this code, run `make dashboards`", file=sys.stderr)
        return 1
    GENERATED.mkdir(exist_ok=True)
    for path in stale:
        if path in wanted:
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
