"""Write the emissions of a run to a model card, and check the card.

python3 model_card.py

The card is the README.md of a new directory, tiny-model, as `save_pretrained` would create it.
"""

import os

from exporter.client import track
from exporter.integrations.huggingface import update_card
from exporter.report.card.check import check_card

MODEL = "tiny-model"
CARD = os.path.join(MODEL, "README.md")


def train() -> None:
    """Use the CPU, as a training would."""
    for _ in range(40):
        sum(n * n for n in range(500_000))


with track("tiny") as run:
    train()

os.makedirs(MODEL, exist_ok=True)
update_card(CARD, run.record, training_type="pre-training", location="Quebec, Canada")
with open(CARD, encoding="utf-8") as file:
    text = file.read()
for finding in check_card(text):
    print(f"{CARD}:{finding.line}: {finding.severity}: {finding.text}")
print(text)
