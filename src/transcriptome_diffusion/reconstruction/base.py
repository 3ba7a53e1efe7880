"""The reconstructor's contract: from landmark profiles to whole transcriptomes, in the original gene order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.artefacts import read_model, write_model
from transcriptome_diffusion.expression.profiles import (
    dense,
    genes_from_json,
    genes_to_json,
    make_profiles,
    require_same_genes,
)

#: profiles predicted at once, next to the result
BATCH = 1024


@dataclass(eq=False)
class Reconstructor(ABC):
    """A fitted map from landmark genes to the remaining (target) genes.

    A subclass names itself and implements ``fit``, ``_predict``, ``_state`` and ``_restore``.

    Attributes:
        genes: the gene table of the whole transcriptome, in the order of the training data.
        landmarks: names of the landmark genes, in the order of the landmark profiles.
        unit: the unit of profiles taken and given.
        settings: the options it was fitted with, as plain JSON.
        record: what happened in training, as plain JSON.
    """

    name: ClassVar[str]

    genes: pd.DataFrame
    landmarks: pd.Index
    unit: str
    settings: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)

    @classmethod
    @abstractmethod
    def fit(cls, landmarks: ad.AnnData, expression: ad.AnnData, options: Any) -> Self:
        """Fit on the training profiles' landmarks and their whole transcriptomes, row for row."""

    @abstractmethod
    def _predict(self, landmarks: np.ndarray) -> np.ndarray:
        """Targets (n, n_targets) for landmarks (n, n_landmarks), both in the log unit."""

    @abstractmethod
    def _state(self) -> dict[str, np.ndarray]:
        """Every array needed to reconstruct again."""

    @abstractmethod
    def _restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Take the arrays of ``_state`` back; the public attributes are already set."""

    @property
    def targets(self) -> np.ndarray:
        """Which genes of ``genes`` are reconstructed, (n_genes,) bool; the others are landmarks."""
        return ~self.genes.index.isin(self.landmarks)

    @classmethod
    def _common(cls, landmarks: ad.AnnData, expression: ad.AnnData, options: Any) -> dict[str, Any]:
        """The constructor's public arguments, after the checks every ``fit`` needs.

        Raises:
            ValueError: if samples, units or genes of the two do not fit together, or values are not finite.
        """
        if not landmarks.obs_names.equals(expression.obs_names):
            raise ValueError(
                f"landmarks ({landmarks.n_obs} samples) and expression ({expression.n_obs} samples) must hold the "
                "same samples in the same order; make both from one split."
            )
        if landmarks.n_obs < 2:
            raise ValueError(f"reconstruction needs two or more training profiles, found {landmarks.n_obs}.")
        if landmarks.uns["unit"] != expression.uns["unit"]:
            raise ValueError(
                f"landmarks are in {landmarks.uns['unit']!r}, expression in {expression.uns['unit']!r}; "
                "make both from one cohort."
            )
        if len(missing := landmarks.var_names.difference(expression.var_names)):
            raise ValueError(
                f"{len(missing)} of {landmarks.n_vars} landmark genes are not in the expression profiles: "
                f"{list(missing[:5])}; select the landmarks from these profiles."
            )
        for what, profiles in (("landmarks", landmarks), ("expression", expression)):
            _require_finite(what, profiles)
        return {
            "genes": expression.var.assign(is_landmark=expression.var_names.isin(landmarks.var_names)),
            "landmarks": landmarks.var_names.copy(),
            "unit": str(expression.uns["unit"]),
            "settings": options.model_dump(mode="json"),
        }

    def reconstruct(self, profiles: ad.AnnData) -> ad.AnnData:
        """Whole transcriptomes (n, n_genes) in the original gene order; the landmarks pass through unchanged.

        Samples, unit and ``uns["generator"]`` are kept; ``uns["reconstructor"]`` names this model.

        Raises:
            ValueError: if genes or unit are not those of training, or values are not finite.
        """
        require_same_genes(profiles, self.landmarks, f"reconstructor {self.name!r}")
        if (found := profiles.uns.get("unit")) != self.unit:
            raise ValueError(
                f"reconstructor {self.name!r} was fitted in {self.unit!r}, the profiles are in {found!r}; "
                "bring them into its unit first."
            )
        _require_finite("landmark profiles", profiles)
        values = np.empty((profiles.n_obs, len(self.genes)), dtype=np.float32)
        landmarks = dense(profiles)
        values[:, self.genes.index.get_indexer(self.landmarks)] = landmarks
        targets = np.flatnonzero(self.targets)
        for start in range(0, profiles.n_obs, BATCH):
            rows = slice(start, start + BATCH)
            values[rows, targets] = self._predict(landmarks[rows])
        whole = make_profiles(values, profiles.obs, self.genes, self.unit, profiles.uns.get("generator"))
        whole.uns["reconstructor"] = {"name": self.name, "settings": self.settings}
        return whole

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``tensors.safetensors`` into ``folder``, whole or not at all."""
        description = {
            "kind": "reconstructor",
            "name": self.name,
            "unit": self.unit,
            "landmarks": list(self.landmarks),
            "genes": genes_to_json(self.genes),
            "settings": self.settings,
            "record": self.record,
        }
        write_model(Path(folder), description, self._state())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ArtefactError: if the folder is missing, broken, or holds another kind of model.
        """
        found, tensors = read_model(folder, "reconstructor", cls.name)
        model = cls(
            genes=genes_from_json(found["genes"]),
            landmarks=pd.Index(found["landmarks"]),
            unit=found["unit"],
            settings=found["settings"],
            record=found["record"],
        )
        model._restore(tensors)
        return model


def _require_finite(what: str, profiles: ad.AnnData) -> None:
    values = dense(profiles)
    bad = ~np.isfinite(values).all(axis=0)
    if bad.any():
        raise ValueError(
            f"{what}: {int(bad.sum())} genes hold NaN or infinite values, the first is "
            f"{profiles.var_names[bad][0]!r}; impute or drop them before reconstruction."
        )
