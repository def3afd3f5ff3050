"""Train a model of 20,000 parameters to classify two kinds of noise, and log its emissions.

pip install '/path/to/clone[transformers]' 'transformers[torch]'
python3 tiny_trainer.py
"""

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import exporter.integrations.transformers  # noqa: F401  registers report_to="emissions"

config = BertConfig(
    vocab_size=64,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=32,
)
words = torch.randint(0, 64, (512, 32), generator=torch.Generator().manual_seed(1))
data = [{"input_ids": row, "labels": int(row[0] > 31)} for row in words]

trainer = Trainer(
    model=BertForSequenceClassification(config),
    args=TrainingArguments(
        output_dir="tiny",
        num_train_epochs=1,
        logging_steps=16,
        report_to="emissions",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    ),
    train_dataset=data,
)
result = trainer.train()
trainer.create_model_card(tags=["tiny"])
print(f"{result.metrics['energy_joules']:.4g} J, {result.metrics['emissions_grams']:.4g} g CO2eq")
