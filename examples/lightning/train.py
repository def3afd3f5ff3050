"""Train a Lightning model and log its energy and grams with its loggers.

pip install '/path/to/clone[lightning]'
"""

import lightning
import torch

from exporter.integrations.lightning import Emissions


class Sums(lightning.LightningModule):
    """Model that learns to add numbers."""

    def __init__(self) -> None:
        """Create a model with one layer."""
        super().__init__()
        self.layer = torch.nn.Linear(16, 1)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        """Return the loss of a batch."""
        inputs, wanted = batch
        loss = torch.nn.functional.mse_loss(self.layer(inputs), wanted)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.Adam(self.parameters())


x = torch.randn(4096, 16)
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(x, x.sum(dim=1, keepdim=True)), batch_size=64
)
emissions = Emissions("sums")
lightning.Trainer(max_epochs=5, callbacks=[emissions], accelerator="cpu").fit(Sums(), loader)
print(f"{emissions.run.run_id}: {emissions.run.energy_joules:.1f} J")
