"""The tissue classifier of Lacan et al. (2026), trained as in their code.

It differs from ``utility``'s: label smoothing, class weights from training and validation rows, early stopping by
accuracy, and the weights of the last epoch. Their numbers compare with those of this classifier only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from transcriptome_diffusion.devices import resolve_device, seeded
from transcriptome_diffusion.metrics.options import PaperClassifierOptions


def build_classifier(n_genes: int, hidden: Sequence[int], n_classes: int, dropout: float) -> nn.Sequential:
    """Dense, ReLU and dropout for each of ``hidden``, then a dense layer of logits."""
    parts: list[nn.Module] = []
    for n_in, width in pairwise([n_genes, *hidden]):
        parts += [nn.Linear(n_in, width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*parts, nn.Linear(hidden[-1], n_classes))


def train_classifier(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    n_classes: int,
    options: PaperClassifierOptions,
    seed: int,
) -> nn.Sequential:
    """Train one classifier; it ends in evaluation mode, on the CPU, with the weights of its last epoch.

    Class weights are N / N_class, counted on training and validation rows. Training ends after ``patience`` epochs in a
    row whose validation accuracy is below the best one. The caller's random state stays as it is.

    Args:
        train, validation: profiles (n, n_genes) float32 and codes (n,), integers below ``n_classes``.
    """
    device = resolve_device("auto")
    x, y, x_seen, y_seen = (torch.from_numpy(part).to(device) for part in (*train, *validation))
    counts = torch.bincount(torch.cat([y, y_seen]), minlength=n_classes)
    weights = (counts.sum() / counts.clamp(min=1)).float()
    loss = nn.CrossEntropyLoss(weights, label_smoothing=options.label_smoothing)
    with seeded(seed, [device.index or 0] if device.type == "cuda" else []):
        network = build_classifier(x.shape[1], options.hidden, n_classes, options.dropout).to(device)
        optimiser: torch.optim.Optimizer
        if options.optimizer == "adam":
            optimiser = torch.optim.Adam(network.parameters(), lr=options.learning_rate)
        else:
            optimiser = torch.optim.SGD(network.parameters(), lr=options.learning_rate, momentum=options.momentum)
        best, below = -1.0, 0
        for _ in range(options.epochs):
            network.train()
            for rows in torch.randperm(len(x)).to(device).split(options.batch_size):
                optimiser.zero_grad()
                loss(network(x[rows]), y[rows]).backward()
                optimiser.step()
            reached = accuracy(network, x_seen, y_seen)
            below = below + 1 if reached < best else 0
            best = max(best, reached)
            if below >= options.patience:
                break
    return network.eval().cpu()


@torch.no_grad()
def accuracy(network: nn.Sequential, x: Tensor, y: Tensor) -> float:
    """Share of the rows of x (n, n_genes) whose largest logit is at y (n,)."""
    return float((network.eval()(x).argmax(dim=1) == y).float().mean())


@torch.no_grad()
def features(network: nn.Sequential, values: np.ndarray) -> np.ndarray:
    """The last hidden layer before its ReLU, (n, width) float32: the space of the paper's Fréchet distance."""
    return network.eval()[:-3](torch.from_numpy(values)).numpy()
