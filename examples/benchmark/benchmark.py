"""Seven models: how good each is, what it cost to train, and what it costs to use.

`python examples/benchmark/benchmark.py` needs scikit-learn. Each training is a run, and so is each
round of inferences, with the label `serves`; their records land in `emissions/benchmark`.
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
"""Images that are asked for at once."""


def main() -> int:
    """Train and use all models, then compare what is known of them."""
    options = _options()
    job_id = options.job_id or time.strftime("benchmark-%Y%m%d-%H%M%S")
    receipts = Path(options.receipts) / job_id
    pictures = digits(options.images)
    # Threads that wait for each other would be paid for as work.
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
    asked = ["--metric=accuracy", "--per=inferences", "--sort=per-result"]
    if options.html:
        subprocess.run([*board, *asked, "--format=html", f"--output={options.html}"], check=True)
    if options.plots:
        asked.append(f"--plots={options.plots}")
    return subprocess.run([*board, *asked], check=False).returncode


def train(name: str, model: Model, known: Digits, job_id: str, receipts: Path) -> tuple[Run, Any]:
    """The run of a training, cross-validation and test, and the model that came of it."""
    with track(name, run_id=name, job_id=job_id, receipts=str(receipts)) as run:
        folds = cross_val_score(model.make(), known.images, known.digits, cv=5)
        fitted = model.make().fit(known.images, known.digits)
        run.log(
            accuracy=fitted.score(known.test_images, known.test_digits),
            accuracy_of_folds=folds.mean(),
            parameters=model.parameters(fitted),
        )
    return run, fitted


def use(
    trained: Run, fitted: Any, known: Digits, number: int, seconds: float, receipts: Path
) -> None:
    """One round of inferences, for so many seconds of processor time."""
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
            fitted.predict(known.test_images[first : first + BATCH])
            run.count(inferences=len(known.test_images[first : first + BATCH]))
            first = (first + BATCH) % len(known.test_images)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job-id", default="", help="What the runs belong to; else the time.")
    parser.add_argument("--receipts", default="emissions/benchmark", metavar="DIRECTORY")
    parser.add_argument("--rounds", type=int, default=3, help="Of inferences, for their spread.")
    parser.add_argument("--seconds", type=float, default=2.0, help="Of each round.")
    parser.add_argument("--images", type=int, help="Use only so many.")
    parser.add_argument("--html", metavar="FILE", help="Write the leaderboard there too.")
    parser.add_argument("--plots", metavar="DIRECTORY", help="Write the plots there, PNG and SVG.")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
