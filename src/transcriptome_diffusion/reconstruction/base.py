"""The reconstructor's contract: from landmark profiles to whole transcriptomes, in the original gene order."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.artefacts import read_model, write_model
from transcriptome_diffusion.expression.profiles import (
    dense,
    donors_of,
    find_unsound,
    genes_from_json,
    genes_to_json,
    make_profiles,
    require_same_genes,
)
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.memory import require_memory
from transcriptome_diffusion.reconstruction.residuals import ResidualModel, spread_evenly
from transcriptome_diffusion.reconstruction.ridge import Spectrum, decompose

logger = logging.getLogger(__name__)

#: profiles predicted at once, next to the result
BATCH = 1024


#: called with (rows, out): writes the standardised residuals (k, n_targets) of the training profiles ``rows`` (k,) into
#: ``out``, each from a model that did not see the profile's donor
TrainingResiduals = Callable[[np.ndarray, np.ndarray], None]


@dataclass(frozen=True, eq=False)
class PairedProfiles:
    """Landmarks and whole transcriptomes of the same profiles, in the log unit.

    Attributes:
        landmarks: (n, n_landmarks). expression: (n, n_genes), all genes.
        donors: (n,).
    """

    landmarks: np.ndarray
    expression: np.ndarray
    donors: np.ndarray

    @classmethod
    def of(cls, landmarks: ad.AnnData, expression: ad.AnnData) -> Self:
        """Without copies."""
        return cls(dense(landmarks), dense(expression), donors_of(expression))


def decompose_landmarks(landmarks: ad.AnnData) -> Spectrum:
    """The spectrum of the standardised training landmarks, for ``fit``: reconstructors of the same cohort share it."""
    values = dense(landmarks)
    return decompose(GeneScaler.fit(values)(values.astype(np.float64)))


@dataclass(eq=False)
class Reconstructor(ABC):
    """A fitted map from landmark genes to the remaining (target) genes.

    To add one, subclass it, set ``name``, write ``train``, ``predict``, ``state`` and ``restore``, and add a line to
    ``registry.RECONSTRUCTORS``. ``fit``, ``reconstruct``, ``save`` and ``load`` then do checks, standardisation gene by
    gene (by training profiles), residual noise and files.

    Attributes:
        genes: the gene table of the whole transcriptome, in the order of the training data.
        landmarks: names of the landmark genes, in the order of the landmark profiles.
        unit: the unit of the profiles it takes and gives.
        settings: the options it was fitted with, as plain JSON.
        record: what happened in training, as plain JSON.
        inputs, outputs: the standardisation of landmarks and of targets.
        residuals: the distribution of what it leaves unexplained; None if there were too few held-out profiles.
    """

    name: ClassVar[str]

    genes: pd.DataFrame
    landmarks: pd.Index
    unit: str
    settings: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    inputs: GeneScaler = field(init=False)
    outputs: GeneScaler = field(init=False)
    residuals: ResidualModel | None = field(init=False, default=None)

    @abstractmethod
    def train(
        self, training: PairedProfiles, validation: PairedProfiles, spectrum: Spectrum, options: Any
    ) -> TrainingResiduals | None:
        """Fit on training profiles and write ``record``; everything but the model's own weights is already set.

        Args:
            training, validation: in the log unit; ``inputs`` and ``outputs`` standardise them.
            spectrum: of the standardised training landmarks.

        Returns:
            What gives residuals of training profiles as if their donors had been left out; None where that would
            cost another training. Residuals of validation donors are used in both cases.
        """

    @abstractmethod
    def predict(self, landmarks: np.ndarray) -> np.ndarray:
        """Targets (n, n_targets) for landmarks (n, n_landmarks), both standardised."""

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Every array that ``predict`` needs, by name."""

    @abstractmethod
    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Take the arrays of ``state`` back; everything else is already set.

        Raises:
            ArtefactError: if they do not fit the settings.
        """

    @classmethod
    def fit(
        cls,
        landmarks: ad.AnnData,
        expression: ad.AnnData,
        validation_landmarks: ad.AnnData,
        validation_expression: ad.AnnData,
        options: Any,
        spectrum: Spectrum | None = None,
    ) -> Self:
        """Fit on the training profiles' landmarks (n, n_landmarks) and whole transcriptomes (n, n_genes), row for row.

        Validation profiles, of other donors, say when to stop (where that means something) and what
        reconstruction leaves unexplained; no weight is fitted to them.

        Args:
            spectrum: ``decompose_landmarks(landmarks)``; None to compute it here.

        Raises:
            ValueError: if samples, units or genes do not fit together, or values are not finite.
            NotEnoughMemoryError: if it would take more memory than there is.
        """
        unit = str(expression.uns["unit"])
        if landmarks.n_obs < 2:
            raise ValueError(f"reconstruction needs two or more training profiles, found {landmarks.n_obs}.")
        if len(missing := landmarks.var_names.difference(expression.var_names)):
            raise ValueError(
                f"{len(missing)} of {landmarks.n_vars} landmark genes are not in the expression profiles: "
                f"{list(missing[:5])}; select the landmarks from these profiles."
            )
        _require_pairs("", landmarks, expression, unit)
        needed = cls._memory_to_fit(expression, validation_expression, landmarks.n_vars, options)
        what = f"fitting reconstructor {cls.name!r} to {expression.n_obs} x {expression.n_vars} values"
        require_memory(what, needed, "Lower `residuals.profiles`, or raise `min_expressed_share` of the ingestion.")
        require_same_genes(validation_landmarks, landmarks.var_names, f"reconstructor {cls.name!r}")
        require_same_genes(validation_expression, expression.var_names, f"reconstructor {cls.name!r}")
        _require_pairs("validation ", validation_landmarks, validation_expression, unit)
        model = cls(
            genes=expression.var.assign(is_landmark=expression.var_names.isin(landmarks.var_names)),
            landmarks=landmarks.var_names.copy(),
            unit=unit,
            settings=options.model_dump(mode="json"),
        )
        targets = np.flatnonzero(model.targets)
        training = PairedProfiles.of(landmarks, expression)
        validation = PairedProfiles.of(validation_landmarks, validation_expression)
        if (training.landmarks.max(axis=0) == training.landmarks.min(axis=0)).all():
            raise ValueError("no landmark gene varies among the training profiles; nothing can be learnt.")
        if not len(targets):
            raise ValueError(
                f"all {len(model.genes)} genes of the expression profiles are landmarks; nothing is left to "
                "reconstruct. Hand in the whole transcriptome, not the panel."
            )
        model.inputs, whole = GeneScaler.fit(training.landmarks), GeneScaler.fit(training.expression)
        model.outputs = GeneScaler(whole.mean[targets], whole.scale[targets])
        spectrum = spectrum or decompose(model.inputs(training.landmarks.astype(np.float64)))
        model._fit_residuals(training, validation, spectrum, options)
        return model

    def _fit_residuals(
        self, training: PairedProfiles, validation: PairedProfiles, spectrum: Spectrum, options: Any
    ) -> None:
        """Train, and learn how held-out profiles differ from their reconstructions."""
        training_residuals = self.train(training, validation, spectrum, options)
        most, targets = options.residuals.profiles, np.flatnonzero(self.targets)
        rows, held_out = (spread_evenly(len(part.landmarks), most) for part in (training, validation))
        if training_residuals is None:
            rows = rows[:0]
        residuals = np.empty((len(rows) + len(held_out), len(targets)), dtype=np.float32)
        if training_residuals is not None:
            training_residuals(rows, residuals[: len(rows)])
        landmarks, others = self.inputs(validation.landmarks[held_out]), residuals[len(rows) :]
        others[:] = validation.expression[np.ix_(held_out, targets)]
        others -= self.outputs.undo(self.predict(landmarks))
        others /= self.outputs.scale
        found = ResidualModel.fit(spectrum, training.donors, rows, landmarks, residuals, options.residuals)
        if found is not None:
            self.residuals, self.record["residuals"] = found

    @property
    def targets(self) -> np.ndarray:
        """Which genes of ``genes`` are reconstructed, (n_genes,) bool; the others are landmarks."""
        return ~self.genes.index.isin(self.landmarks)

    @classmethod
    def _memory_to_fit(
        cls, expression: ad.AnnData, validation_expression: ad.AnnData, landmarks: int, options: Any
    ) -> float:
        """Bytes that ``fit`` takes at its peak: weights, spectrum, residuals, a block of targets."""
        (n, genes), most = expression.shape, options.residuals.profiles
        kept = min(n, most) + min(validation_expression.n_obs, most)
        precision = 4 if n > 2 * landmarks else 8
        weights, spectrum = (4 + precision) * landmarks * genes, 3 * 8 * n * landmarks
        return weights + spectrum + 4 * kept * genes + 2 * precision * n * min(genes, 2048)

    def reconstruct(self, profiles: ad.AnnData, noise_seed: int | None = None) -> ad.AnnData:
        """Whole transcriptomes (n, n_genes) in the original gene order; the landmarks pass through unchanged.

        Samples, unit and ``uns["generator"]`` are kept; ``uns["reconstructor"]`` names this model and the seed.

        Args:
            profiles: (n, n_landmarks) in the unit of training; any sample table, but see ``noise_seed``.
            noise_seed: None for the conditional mean, which varies less than real profiles do; with a seed,
                residuals as held-out profiles have them are added to the targets.

        Raises:
            ValueError: if genes or unit are not those of training, values are not finite, or noise is asked of
                a model that had too few held-out profiles to learn it.
            NotEnoughMemoryError: if the result would take more memory than there is.
        """
        require_same_genes(profiles, self.landmarks, f"reconstructor {self.name!r}")
        if (found := profiles.uns.get("unit")) != self.unit:
            raise ValueError(
                f"reconstructor {self.name!r} was fitted in {self.unit!r}, the profiles are in {found!r}; "
                "bring them into its unit first."
            )
        _require_finite("landmark profiles", profiles)
        if noise_seed is not None and self.residuals is None:
            raise ValueError(
                f"reconstructor {self.name!r} has no residual noise: it was fitted with fewer than three held-out "
                "profiles. Fit it with more validation donors, or reconstruct without a noise seed."
            )
        needed = (4 * profiles.n_obs + 14 * min(profiles.n_obs, BATCH)) * len(self.genes)
        what = f"rebuilding {profiles.n_obs} profiles of {len(self.genes)} genes"
        require_memory(what, needed, "Rebuild fewer profiles at once, or draw fewer `runs`.")
        values = np.empty((profiles.n_obs, len(self.genes)), dtype=np.float32)
        landmarks = dense(profiles)
        values[:, self.genes.index.get_indexer(self.landmarks)] = landmarks
        targets = np.flatnonzero(self.targets)
        rng = np.random.default_rng(noise_seed)
        for start in range(0, profiles.n_obs, BATCH):
            rows = slice(start, start + BATCH)
            standardised = self.inputs(landmarks[rows])
            predicted = self.predict(standardised)
            if noise_seed is not None and self.residuals is not None:
                predicted += self.residuals.draw(standardised, rng)
            values[rows, targets] = self.outputs.undo(predicted)
        whole = make_profiles(values, profiles.obs, self.genes, self.unit, profiles.uns.get("generator"))
        whole.uns["reconstructor"] = {"name": self.name, "settings": self.settings}
        if noise_seed is not None:
            whole.uns["reconstructor"]["noise_seed"] = noise_seed
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
        tensors = {
            "input_mean": self.inputs.mean,
            "input_scale": self.inputs.scale,
            "output_mean": self.outputs.mean,
            "output_scale": self.outputs.scale,
            **{f"model.{name}": value for name, value in self.state().items()},
        }
        if self.residuals is not None:
            tensors |= {f"residuals.{name}": value for name, value in self.residuals.state().items()}
        write_model(Path(folder), description, tensors)

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
        model.inputs = GeneScaler(tensors["input_mean"], tensors["input_scale"])
        model.outputs = GeneScaler(tensors["output_mean"], tensors["output_scale"])
        if residuals := _named("residuals.", tensors):
            model.residuals = ResidualModel(**residuals)
        model.restore(_named("model.", tensors))
        return model


def _named(prefix: str, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _require_pairs(what: str, landmarks: ad.AnnData, expression: ad.AnnData, unit: str) -> None:
    if not landmarks.obs_names.equals(expression.obs_names):
        raise ValueError(
            f"{what}landmarks ({landmarks.n_obs} samples) and {what}expression ({expression.n_obs} samples) must "
            "hold the same samples in the same order; make both from one split."
        )
    for name, profiles in (("landmarks", landmarks), ("expression", expression)):
        if (found := profiles.uns.get("unit")) != unit:
            raise ValueError(f"{what}{name} are in {found!r}, expected {unit!r}; make all profiles from one cohort.")
        _require_finite(what + name, profiles)


def _require_finite(what: str, profiles: ad.AnnData) -> None:
    values = dense(profiles)
    if find_unsound(values) is not None:
        bad = ~np.isfinite(values).all(axis=0)
        raise ValueError(
            f"{what}: {int(bad.sum())} genes hold NaN or infinite values, the first is "
            f"{profiles.var_names[bad][0]!r}; impute or drop them before reconstruction."
        )
