"""Compare seven models by accuracy and by the emissions of training and inference.

`python examples/benchmark/benchmark.py` requires scikit-learn. Each training is a run, and so is
each round of inferences, with the label `serves`. Records are written to `emissions/benchmark`.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from data import Digits, digits
from models import MODELS, Model
from sklearn.model_selection import cross_val_score
from threadpoolctl import threadpool_limits

from exporter.client import Run, track

BATCH = 50
"""Images per call of `predict`."""


def main() -> int:
    """Train and use all models, then compare their records."""
    options = _options()
    job_id = options.job_id or time.strftime("benchmark-%Y%m%d-%H%M%S")
    receipts = Path(options.receipts) / job_id
    pictures = digits(options.images)
    # The CPU time of threads that wait for each other would be charged to the run.
    with threadpool_limits(1):
        for name, model in MODELS.items():
            run, fitted = train(name, model, pictures, job_id, receipts)
            for number in range(options.rounds):
                use(run, fitted, pictures, number + 1, options.seconds, receipts)
    records = sorted(map(str, receipts.glob("*.json")))
    if not records:
        print("Nothing was measured.", file=sys.stderr)
        return 1
    board = [sys.executable, "-m", "exporter", "leaderboard", "--from", *records]
    arguments = ["--metric=accuracy", "--per=inferences", "--sort=per-result"]
    if options.html:
        subprocess.run(
            [*board, *arguments, "--format=html", f"--output={options.html}"], check=True
        )
    if options.plots:
        arguments.append(f"--plots={options.plots}")
    return subprocess.run([*board, *arguments], check=False).returncode


def train(name: str, model: Model, data: Digits, job_id: str, receipts: Path) -> tuple[Run, Any]:
    """Train, cross-validate and test a model; return the run and the fitted model."""
    with track(name, run_id=name, job_id=job_id, receipts=str(receipts)) as run:
        folds = cross_val_score(model.make(), data.images, data.digits, cv=5)
        fitted = model.make().fit(data.images, data.digits)
        run.log(
            accuracy=fitted.score(data.test_images, data.test_digits),
            accuracy_of_folds=folds.mean(),
            parameters=model.parameters(fitted),
        )
    return run, fitted


def use(
    trained: Run, fitted: Any, data: Digits, number: int, seconds: float, receipts: Path
) -> None:
    """Run one round of inferences for `seconds` of CPU time."""
    with track(
        f"{trained.run_id}-use-{number}",
        run_id=f"{trained.run_id}-use-{number}",
        job_id=trained.job_id,
        labels={"serves": trained.run_id},
        receipts=str(receipts),
    ) as run:
        until = time.process_time() + seconds
        first = 0
        while time.process_time() < until:
            fitted.predict(data.test_images[first : first + BATCH])
            run.count(inferences=len(data.test_images[first : first + BATCH]))
            first = (first + BATCH) % len(data.test_images)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job-id", default="", help="Job id of all runs; default: from the time.")
    parser.add_argument("--receipts", default="emissions/benchmark", metavar="DIRECTORY")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds of inferences.")
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU time of each round.")
    parser.add_argument("--images", type=int, help="Number of images to use; default: all.")
    parser.add_argument("--html", metavar="FILE", help="Also write the leaderboard to this file.")
    parser.add_argument("--plots", metavar="DIRECTORY", help="Write the plots as PNG and SVG.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
