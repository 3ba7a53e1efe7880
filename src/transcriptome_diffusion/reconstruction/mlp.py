"""Reconstruction by a multilayer perceptron, the shape of D-GEX."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from transcriptome_diffusion.artefacts import ArtefactError
from transcriptome_diffusion.devices import seeded
from transcriptome_diffusion.layers import DenseLayer
from transcriptome_diffusion.reconstruction.base import PairedProfiles, Reconstructor
from transcriptome_diffusion.reconstruction.options import MLPOptions
from transcriptome_diffusion.reconstruction.ridge import Spectrum


class Perceptron(nn.Module):
    """Dense layers with ReLU, batch norm and dropout from standardised landmarks to standardised targets.

    Args:
        n_in, hidden, n_out: widths of landmarks, hidden layers and targets.
    """

    def __init__(self, n_in: int, n_out: int, options: MLPOptions) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n, width in pairwise([n_in, *options.hidden]):
            layers.append(DenseLayer(n, width))
            if options.batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers += [nn.ReLU(), nn.Dropout(options.dropout)]
        self.hidden = nn.Sequential(*layers)
        self.out = DenseLayer(options.hidden[-1], n_out)
        nn.init.zeros_(self.out.bias)

    def forward(self, z: Tensor) -> Tensor:
        """(n, n_targets) for z (n, n_landmarks)."""
        return self.out(self.hidden(z))


class Regression(nn.Module):
    """The perceptron's training on batches (landmarks, all genes) in the log unit: no scaled copy of either is kept.

    Args:
        constants: ``targets``, the places of the targets among all genes, and ``mean`` and ``scale`` of landmarks
            (``input_``) and of targets (``output_``).
    """

    input_mean: Tensor
    input_scale: Tensor
    output_mean: Tensor
    output_scale: Tensor
    targets: Tensor

    def __init__(self, network: Perceptron, constants: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.network = network
        for name, value in constants.items():
            self.register_buffer(name, value)

    def training_loss(self, batch: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
        """Mean squared error in standard deviations of the training profiles."""
        landmarks, expression = batch
        predicted = self.network((landmarks - self.input_mean) / self.input_scale).float()
        return F.mse_loss(predicted, (expression[:, self.targets] - self.output_mean) / self.output_scale)

    def validation_loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        """The same; it has no randomness but dropout, which is off."""
        return self.training_loss(batch, torch.Generator())


@dataclass(eq=False)
class MLPReconstructor(Reconstructor):
    """All target genes by one perceptron: Chen et al. (2016), doi:10.1093/bioinformatics/btw074 (D-GEX).

    Chen et al. and Lacan et al. train on 10,000 to 100,000 profiles; ``hidden`` may be made as wide as theirs, the
    default is for some hundred. Validation donors choose the step whose weights are kept.
    """

    name: ClassVar[str] = "mlp"

    network: Perceptron = field(init=False)

    def train(
        self, training: PairedProfiles, validation: PairedProfiles, spectrum: Spectrum, options: MLPOptions
    ) -> None:
        from transcriptome_diffusion.training import fit

        if not len(validation.landmarks):
            raise ValueError(
                "the mlp needs validation profiles to know when to stop, found none; raise the share of validation "
                "donors in the split."
            )
        constants = {
            "input_mean": self.inputs.mean,
            "input_scale": self.inputs.scale,
            "output_mean": self.outputs.mean,
            "output_scale": self.outputs.scale,
            "targets": np.flatnonzero(self.targets),
        }

        def tensors(profiles: PairedProfiles) -> list[torch.Tensor]:
            return [torch.from_numpy(values) for values in (profiles.landmarks, profiles.expression)]

        with seeded(options.seed):
            self.network = Perceptron(len(self.landmarks), len(self.outputs.mean), options)
            self.record = fit(
                Regression(self.network, {name: torch.from_numpy(value) for name, value in constants.items()}),
                tensors(training),
                tensors(validation),
                options.training,
                options.seed,
                title="reconstruction, mlp",
            )

    @torch.no_grad()
    def predict(self, landmarks: np.ndarray) -> np.ndarray:
        return self.network.eval()(torch.from_numpy(landmarks)).numpy()

    def state(self) -> dict[str, np.ndarray]:
        return {name: tensor.numpy() for name, tensor in self.network.state_dict().items()}

    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        options = MLPOptions.model_validate(self.settings)
        self.network = Perceptron(len(self.landmarks), int(self.targets.sum()), options)
        try:
            self.network.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
        except RuntimeError as error:
            raise ArtefactError(
                f"the weights do not fit the settings beside them ({error}); train the model again."
            ) from error
