"""DP-SGD (Abadi et al. 2016, arXiv:1607.00133) at the level of donors, with the optimiser of Opacus.

The unit is a donor with all of their profiles. A step takes every donor with the same probability (Poisson sampling).
The gradient of a donor is the mean over ``draws`` of one of their profiles, a time and noise, drawn anew each; it is
clipped as a whole. So a donor moves the sum of a step by at most the clipping norm, however many profiles they have,
and more draws make their gradient less noisy at no cost to privacy (Dockhorn et al. 2023, arXiv:2210.09929).
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from transcriptome_diffusion.generators.differential_privacy import INSTALL, noise_multiplier
from transcriptome_diffusion.generators.privacy_options import DPSGDOptions

logger = logging.getLogger(__name__)

#: spacing of the losses that the accountant computes with; it rounds up
SPACING = 1e-3
#: accuracy to which the noise multiplier is searched for, from above
TOLERANCE = 0.005


class PrivatelyTrainable(Protocol):
    """A network that can be fine-tuned by ``fine_tune``; it is an ``nn.Module`` as well."""

    def independent_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """Mean loss of rows that were no part of what the coordinates were fitted to.

        No row's loss depends on the other rows, nor its random numbers on how many there are.
        """


def composed_epsilon(others: tuple[float, ...], delta: float, noise: float, sampling_rate: float, steps: int) -> float:
    """Epsilon of Gaussian mechanisms with the multipliers ``others`` and of DP-SGD, one after the other.

    By privacy loss distributions (Koskela et al. 2020, arXiv:1906.03049), as Google's ``dp-accounting`` computes them,
    for cohorts that differ by one donor who is there or not.

    Args:
        noise, sampling_rate, steps: multiplier of the noise of DP-SGD, probability of a donor, number of steps.

    Raises:
        ModuleNotFoundError: if that library is not installed.
    """
    try:
        import dp_accounting
        from dp_accounting.pld import PLDAccountant
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(INSTALL) from error
    accountant = PLDAccountant(
        dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, value_discretization_interval=SPACING
    )
    step = dp_accounting.PoissonSampledDpEvent(sampling_rate, dp_accounting.GaussianDpEvent(noise))
    events = [*map(dp_accounting.GaussianDpEvent, others), dp_accounting.SelfComposedDpEvent(step, steps)]
    return float(accountant.compose(dp_accounting.ComposedDpEvent(events)).get_epsilon(delta))


@lru_cache(maxsize=64)
def sgd_noise(others: tuple[float, ...], epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """The smallest noise multiplier of DP-SGD with which all mechanisms together keep (epsilon, delta).

    Raises:
        ValueError: if the other mechanisms alone do not.
    """
    if others and math.fsum(1 / other**2 for other in others) >= noise_multiplier(epsilon, delta) ** -2 * (1 - 1e-9):
        raise ValueError(
            f"no noise of DP-SGD keeps epsilon {epsilon:g}: class means alone, with the noise multipliers {others}, "
            "leave nothing of it. Raise `dp_sgd.share`."
        )
    low, high = 0.0, 1.0
    while composed_epsilon(others, delta, high, sampling_rate, steps) > epsilon:
        low, high = high, 2 * high
    while high - low > TOLERANCE * high:
        middle = (low + high) / 2
        if middle < 0.3 or composed_epsilon(others, delta, middle, sampling_rate, steps) > epsilon:
            low = middle
        else:
            high = middle
    return high


def refuse_unsupported(network: nn.Module, name: str) -> None:
    """Stop if a layer of the network has no gradient per profile.

    Raises:
        ModuleNotFoundError: if Opacus is not installed.
        ValueError: naming these layers.
    """
    try:
        from opacus.grad_sample import GradSampleModule
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(INSTALL.replace("dp-accounting", "opacus")) from error
    found = {
        f"{place} ({type(layer).__name__})"
        for place, layer in network.named_modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)
        or (any(True for _ in layer.parameters(recurse=False)) and not GradSampleModule.is_supported(layer))
    }
    if found:
        raise ValueError(
            f"{name} cannot be trained by DP-SGD, which needs the gradient of every donor alone, and these layers mix "
            f"profiles: {', '.join(sorted(found))}. Set `batch_norm: false`, or `dp_sgd.share: 0`."
        )


class Donors:
    """Coordinates and codes of profiles by donor, from which batches are drawn.

    Args:
        u: (n, width). codes: (n, n_conditions). donors: (n,), any labels.
    """

    def __init__(self, u: Tensor, codes: Tensor, donors: np.ndarray) -> None:
        self.u, self.codes = u, codes
        _, index, self.sizes = np.unique(donors.astype(str), return_inverse=True, return_counts=True)
        self.order, self.starts = np.argsort(index, kind="stable"), np.cumsum(self.sizes) - self.sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def batch(self, chosen: np.ndarray, draws: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """``draws`` profiles of every donor of ``chosen``, donor by donor, with replacement."""
        donor = np.repeat(chosen, draws)
        rows = torch.from_numpy(self.order[self.starts[donor] + rng.integers(self.sizes[donor])])
        return self.u[rows], self.codes[rows]


@contextmanager
def donor_gradients(network: nn.Module, trained: list[nn.Parameter]) -> Iterator[None]:
    """Gradients of single rows for the parameters ``trained`` alone, without dropout; all is put back at the end."""
    from opacus.grad_sample import GradSampleModule

    before = {name: p.requires_grad for name, p in network.named_parameters()}
    chosen = {id(p) for p in trained}
    for p in network.parameters():
        p.requires_grad_(id(p) in chosen)
    wrapped = GradSampleModule(network, loss_reduction="mean")
    network.train()  # Opacus computes gradients of single rows in training mode only
    for layer in network.modules():
        if isinstance(layer, nn.Dropout):
            layer.eval()
    try:
        with warnings.catch_warnings():
            # where embeddings alone are trained, no input of a layer has a gradient
            warnings.filterwarnings("ignore", "Full backward hook is firing")
            yield
    finally:
        wrapped.remove_hooks()
        for p in network.parameters():
            for name in ("grad_sample", "summed_grad"):
                if hasattr(p, name):
                    delattr(p, name)
        for name, p in network.named_parameters():
            p.grad = None
            p.requires_grad_(before[name])
        network.eval()


def backward(
    network: Any,
    trained: list[nn.Parameter],
    profiles: Donors,
    chosen: np.ndarray,
    draws: int,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> None:
    """Set ``grad_sample`` of every trained parameter to one gradient per chosen donor, (n_chosen, *shape)."""
    if not len(chosen):
        for p in trained:
            p.grad_sample = p.new_zeros((0, *p.shape))  # type: ignore[attr-defined]
        return
    network.independent_loss(profiles.batch(chosen, draws, rng), generator).backward()
    for p in trained:
        # "mean" of Opacus: gradients of single rows, as if each were alone
        rows: Tensor = p.grad_sample  # type: ignore[attr-defined]
        p.grad_sample = rows.reshape(len(chosen), draws, *p.shape).mean(1)  # type: ignore[attr-defined]


def gradient_norm(
    network: Any, trained: list[nn.Parameter], public: Donors, options: DPSGDOptions, rng: np.random.Generator
) -> float:
    """The quantile ``clip_quantile`` of the lengths of *public* donors' gradients, to which others are clipped."""
    with donor_gradients(network, trained):
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        lengths = []
        for chosen in np.array_split(np.arange(len(public)), -(-len(public) // 64)):
            backward(network, trained, public, chosen, options.draws, rng, generator)
            parts = [p.grad_sample.flatten(1) for p in trained]  # type: ignore[attr-defined]
            lengths.append(torch.cat(parts, 1).norm(dim=1))
            for p in trained:
                p.grad = p.grad_sample = None  # type: ignore[attr-defined]
    return max(float(torch.cat(lengths).quantile(options.clip_quantile)), 1e-12)


def fine_tune(
    network: Any,
    trained: list[nn.Parameter],
    profiles: Donors,
    noise: float,
    clip: float,
    expected: float,
    options: DPSGDOptions,
    rng: np.random.Generator,
) -> None:
    """Fine-tune ``trained`` of a network in place; its weights are the mean over the second half of the steps.

    Nothing of the profiles but the noisy sums of clipped gradients reaches the weights: there is no early stopping, and
    a batch without a donor makes a step of noise alone.

    Args:
        network: a ``PrivatelyTrainable``. trained: those of its parameters that change.
        noise: its multiplier, as ``sgd_noise`` gives it.
        clip: length that a donor's gradient is clipped to; from public profiles. expected: donors in a batch, from
            public or noisy numbers.
        rng: of sampling and of noise; must not be known to others.
    """
    from opacus.optimizers import DPOptimizer

    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    optimizer = DPOptimizer(
        torch.optim.Adam(trained, lr=options.learning_rate),
        noise_multiplier=noise,
        max_grad_norm=clip,
        expected_batch_size=expected,
        generator=generator,
    )
    mean = [torch.zeros_like(p) for p in trained]
    first = options.steps // 2
    with donor_gradients(network, trained):
        for step in range(options.steps):
            chosen = np.flatnonzero(rng.random(len(profiles)) < options.sampling_rate)
            optimizer.zero_grad()
            backward(network, trained, profiles, chosen, options.draws, rng, generator)
            optimizer.step()
            if step >= first:
                for average, p in zip(mean, trained, strict=True):
                    average += p.detach() / (options.steps - first)
    with torch.no_grad():
        for average, p in zip(mean, trained, strict=True):
            p.copy_(average)
