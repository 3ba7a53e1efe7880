"""What all rows of a scorecard are measured with: fitted once on real training donors, kept beside the models."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.artefacts import ArtefactError, read_model, write_model
from transcriptome_diffusion.expression.profiles import dense, require_same_genes
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.metrics.biology.coexpression import Modules
from transcriptome_diffusion.metrics.distances import PrincipalAxes
from transcriptome_diffusion.metrics.neighbours import neighbour_distances
from transcriptome_diffusion.metrics.options import ClassifierOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.utility import Projection, TissueFeatures

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Yardsticks:
    """Scale, axes, classifier and modules of real profiles; nothing here has seen a held-out donor.

    Attributes:
        genes: the columns of the profiles it measures, (n_genes,).
        scaler: from the log unit to training standard deviations, the space of all distances.
        axes: principal axes of the training profiles, for the Fréchet distance without a classifier.
        tissues: hidden layer of a classifier of real tissues, for the paper's Fréchet distance.
        modules: co-expression modules, or None where training profiles have none.
        apart: distance of each training profile, in their order, to the nearest other, (n_train,).
    """

    genes: pd.Index
    scaler: GeneScaler
    axes: PrincipalAxes
    tissues: TissueFeatures
    modules: Modules | None
    apart: np.ndarray

    @classmethod
    def fit(
        cls,
        train: ProfileSet,
        validation: ProfileSet,
        genes: Sequence[str],
        components: int,
        options: ClassifierOptions,
    ) -> Self:
        """Profiles (n, n_genes) are in the log unit here; the classifier stops early on ``validation``.

        Raises:
            ValueError: if there are fewer than two profiles or classes.
        """
        scaler = GeneScaler.fit(train.values)
        try:
            modules = Modules.fit(train.values, train.labels)
        except ValueError as error:
            logger.info("no co-expression modules on the scorecard: %s", error)
            modules = None
        train, validation = (ProfileSet(scaler(part.values), part.labels) for part in (train, validation))
        return cls(
            pd.Index(genes),
            scaler,
            PrincipalAxes.fit(train.values, components),
            TissueFeatures.fit(train, validation, options),
            modules,
            neighbour_distances(train.values, 1)[:, 0],
        )

    def measure(
        self, profiles: ad.AnnData, label: str, contrast: str | None = None, donor: str = "donor"
    ) -> ProfileSet:
        """Profiles as indicators take them; without a column ``donor`` each is its own unit, as synthetic ones are.

        Raises:
            ValueError: if the genes are not those of the training profiles, in order.
        """
        require_same_genes(profiles, self.genes, "the scorecard")
        values, obs = self.scaler(dense(profiles)), profiles.obs
        return ProfileSet(
            values,
            obs[label].astype(str).to_numpy(),
            obs.get(donor, profiles.obs_names.to_series()).astype(str).to_numpy(),
            self.axes(values),
            self.tissues(values),
            obs[contrast].astype(str).to_numpy() if contrast in obs else None,
        )

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``tensors.safetensors`` into ``folder``, whole or not at all."""
        tensors = {
            "scaler.mean": self.scaler.mean,
            "scaler.scale": self.scaler.scale,
            "axes.centre": self.axes.centre,
            "axes.axes": self.axes.axes,
            "apart": self.apart,
        }
        if self.tissues.projection.axes is not None and self.tissues.projection.centre is not None:
            tensors |= {
                "tissues.centre": self.tissues.projection.centre,
                "tissues.axes": self.tissues.projection.axes,
            }
        for i, (weight, bias) in enumerate(self.tissues.layers):
            tensors |= {f"tissues.{i}.weight": weight, f"tissues.{i}.bias": bias}
        if self.modules is not None:
            tensors |= {
                "modules.genes": self.modules.genes,
                "modules.correlation": self.modules.correlation,
                "modules.members": np.concatenate(self.modules.members),
                "modules.sizes": np.array([len(genes) for genes in self.modules.members]),
            }
        description = {
            "kind": "yardsticks",
            "name": "yardsticks",
            "genes": list(self.genes),
            "components": self.axes.axes.shape[1],
            "hidden": [len(bias) for _, bias in self.tissues.layers],
            "modules": 0 if self.modules is None else len(self.modules.members),
        }
        write_model(Path(folder), description, tensors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ArtefactError: if the folder is missing, broken, or holds something else.
        """
        found, tensors = read_model(folder, "yardsticks", "yardsticks")
        try:
            modules = None
            if found["modules"]:
                ends = tensors["modules.sizes"].cumsum()[:-1]
                members = tuple(np.split(tensors["modules.members"], ends))
                modules = Modules(tensors["modules.genes"], members, tensors["modules.correlation"])
            return cls(
                pd.Index(found["genes"]),
                GeneScaler(tensors["scaler.mean"], tensors["scaler.scale"]),
                PrincipalAxes(tensors["axes.centre"], tensors["axes.axes"]),
                TissueFeatures(
                    Projection(tensors.get("tissues.centre"), tensors.get("tissues.axes")),
                    tuple(
                        (tensors[f"tissues.{i}.weight"], tensors[f"tissues.{i}.bias"])
                        for i in range(len(found["hidden"]))
                    ),
                ),
                modules,
                tensors["apart"],
            )
        except KeyError as error:
            raise ArtefactError(f"{folder} lacks {error}; run the evaluation again from its start.") from error
