"""Writes the generated files of the chart, and the manifests rendered from it.

In the chart: the schema of its values, their table, what its checks know of the exporter, the
collectors that the intensity pod disables, and copies of rules, alerts and dashboards, since a
chart cannot read files outside of it, and Helm warns of links. The manifests are deploy/kubernetes,
one folder for each profile, rendered by helm; without helm they are left as they are. `--check`
writes nothing and fails if a file is not what it should be.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from deploy.helm import facts
from deploy.helm.schema import schema
from deploy.helm.values import Value, values
from exporter.sample.registry import COLLECTOR_NAMES

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/emissions-exporter"
MANIFESTS = ROOT / "deploy/kubernetes"
PROFILES = {"default": "privileged", "sharing": "privileged", "gpu-only": "restricted"}
"""Each profile, and what the Pod Security of its namespace must allow."""
KUBERNETES = "1.33.0"
"""What is rendered for; a helm that was built by hand believes in one that is too old."""
COPIES = {
    "alerts": "deploy/prometheus/alerts/*.yaml",
    "dashboards": "dashboards/generated/*.json",
    "rules": "deploy/prometheus/rules/*.yaml",
}
"""Folders of the chart's `files`, and what each is a copy of."""
BEGIN, END = "<!-- values: begin -->\n", "<!-- values: end -->\n"
NO_COLLECTORS = re.compile(r'(set \$config "sample" \(dict "collectors" \(dict)[^()]*(\)\))')
"""Where the settings of the intensity pod disable all collectors."""
OF_HELM = ("helm.sh/chart:", "app.kubernetes.io/managed-by:", "# Source:")

KUSTOMIZATION = """\
# Made by `make chart`. No registry has this image: name this directory in a kustomization with your
# image and the zone of your nodes, as in docs/kubernetes.md, "Without Helm".
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources:
{resources}"""

NAMESPACE = """\
# Made by `make chart`.
apiVersion: v1
kind: Namespace
metadata:
  name: emissions-exporter
  labels:
    pod-security.kubernetes.io/enforce: {level}
"""


def table(described: Sequence[Value]) -> str:
    """The values as a table of Markdown."""
    lines = ["| value | default | what |\n", "| --- | --- | --- |\n"]
    for value in described:
        default = json.dumps(value.default).replace("|", "\\|")
        lines.append(f"| `{value.path}` | `{default}` | {value.text} |\n")
    return "".join(lines)


def readme(text: str, described: Sequence[Value]) -> str:
    """The README `text` with the table of these values in its place."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(described)}\n{END}{after}"


def helpers(text: str, names: Sequence[str]) -> str:
    """The template `text` with these collectors disabled in the settings of the intensity pod."""
    disabled = "".join(f' "{name}" false' for name in names)
    made, found = NO_COLLECTORS.subn(rf"\g<1>{disabled}\g<2>", text)
    if found != 1:
        raise ValueError(f"_helpers.tpl: {NO_COLLECTORS.pattern} is found {found} times, not once")
    return made


def pages() -> dict[Path, str]:
    """The files that are made without helm, and their texts."""
    described = values((CHART / "values.yaml").read_text(encoding="utf-8"))
    page, template = CHART / "README.md", CHART / "templates/_helpers.tpl"
    return {
        template: helpers(template.read_text(encoding="utf-8"), COLLECTOR_NAMES),
        page: readme(page.read_text(encoding="utf-8"), described),
        CHART / "values.schema.json": json.dumps(schema(described), indent=2) + "\n",
        CHART / "templates/_exporter.tpl": facts.template(),
        **{
            CHART / "files" / folder / source.name: source.read_text(encoding="utf-8")
            for folder, pattern in COPIES.items()
            for source in ROOT.glob(pattern)
        },
    }


def manifests(helm: str) -> dict[Path, str]:
    """The files of deploy/kubernetes, and their texts."""
    made = {MANIFESTS / "kustomization.yaml": _kustomization(["default"])}
    for profile, level in PROFILES.items():
        folder = MANIFESTS / profile
        made[folder / "kustomization.yaml"] = _kustomization(
            ["namespace.yaml", "emissions-exporter.yaml"]
        )
        made[folder / "namespace.yaml"] = NAMESPACE.format(level=level)
        made[folder / "emissions-exporter.yaml"] = _rendered(helm, {"profile": profile})
    return made


def _kustomization(resources: Sequence[str]) -> str:
    return KUSTOMIZATION.format(resources="".join(f"  - {name}\n" for name in resources))


def _rendered(helm: str, given: Mapping[str, Any]) -> str:
    """What the chart makes of `given`, without what speaks of Helm."""
    command = [
        *(helm, "template", "emissions-exporter", str(CHART)),
        *("--namespace", "emissions-exporter", "--values", "-"),
        *("--kube-version", KUBERNETES),
    ]
    done = subprocess.run(  # noqa: S603  the program that was asked for
        command, input=yaml.safe_dump(given), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    kept = [
        line
        for line in done.stdout.splitlines()
        if line.strip() and not line.strip().startswith(OF_HELM)
    ]
    return "# Made by `make chart` from deploy/helm.\n" + "\n".join(kept) + "\n"


def _stale(wanted: Mapping[Path, str]) -> Iterator[Path]:
    for path, text in wanted.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield path


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or check them; the answer is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    options = parser.parse_args(arguments)
    helm = shutil.which("helm")
    wanted = pages()
    old = list(_stale(wanted))
    if not options.check:
        _write(wanted, old)
    if helm:
        wanted |= manifests(helm)
        old = list(_stale(wanted))
    else:
        print("helm is missing; deploy/kubernetes is left as it is", file=sys.stderr)
    if options.check:
        for path in old:
            print(f"{path.relative_to(ROOT)}: not made from the chart, run `make chart`")
        return 1 if old else 0
    _write(wanted, old)
    return 0


def _write(pages: Mapping[Path, str], paths: Sequence[Path]) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(pages[path], encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
