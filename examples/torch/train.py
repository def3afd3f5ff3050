"""Measure a plain PyTorch loop: one line for its epochs, one for its batches."""

import torch

from exporter.client import current_run
from exporter.integrations.torch import batches, epochs

x = torch.randn(4096, 16)
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(x, x.sum(dim=1, keepdim=True)), batch_size=64
)
model = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters())

for _ in epochs(5, "loop", on_epoch=print):
    for inputs, wanted in batches(loader):
        loss = torch.nn.functional.mse_loss(model(inputs), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    current_run().log(loss=loss.item())
