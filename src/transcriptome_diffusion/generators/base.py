"""The generator's contract: fit, sample, save, load, and the labels every generator is conditioned on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.artefacts import ArtefactError, read_model, write_model
from transcriptome_diffusion.expression.profiles import (
    dense,
    genes_from_json,
    genes_to_json,
    make_profiles,
    require_same_genes,
)
from transcriptome_diffusion.expression.units import linear_unit
from transcriptome_diffusion.generators.label_table import label_table, mark_extrapolated
from transcriptome_diffusion.generators.marginal_map import SEED_OFFSET, MarginalMap, draws_for, memory_of_map
from transcriptome_diffusion.generators.model_card import CARD_FILE, model_card
from transcriptome_diffusion.memory import SMALLER, require_memory

#: share of training values at the lower bound above which drawn values are not clipped there
RARE = 0.01


@dataclass(frozen=True)
class Conditions:
    """The categorical covariates a generator is conditioned on, each with its known categories in order."""

    categories: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, obs: pd.DataFrame, names: Sequence[str]) -> Self:
        """Read the categories of the columns ``names`` from a sample table.

        Raises:
            ValueError: if a column is missing or holds missing values.
        """
        for name in names:
            if name not in obs:
                raise ValueError(
                    f"condition {name!r} is not a column of the sample table, which has {list(obs.columns)}; "
                    "mend `conditions` in the parameters."
                )
            if obs[name].isna().any():
                raise ValueError(
                    f"condition {name!r} is missing for {int(obs[name].isna().sum())} of {len(obs)} samples."
                )
        return cls({name: tuple(sorted(obs[name].astype(str).unique())) for name in names})

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.categories)

    @property
    def sizes(self) -> list[int]:
        """The number of categories of each condition."""
        return [len(known) for known in self.categories.values()]

    def to_codes(self, labels: pd.DataFrame) -> np.ndarray:
        """Category codes, (n_samples, n_conditions) int64.

        Raises:
            ValueError: if a condition is missing or a label is not among those seen in training.
        """
        codes = np.empty((len(labels), len(self.categories)), dtype=np.int64)
        for column, (name, known) in enumerate(self.categories.items()):
            if name not in labels:
                raise ValueError(f"labels lack the condition {name!r}; they have {list(labels.columns)}.")
            values = labels[name].astype(str)
            codes[:, column] = pd.Categorical(values, categories=list(known)).codes
            if (codes[:, column] < 0).any():
                unknown = sorted(set(values[codes[:, column] < 0]))
                raise ValueError(
                    f"unknown {name}: {unknown}. The model knows {list(known)}; "
                    "ask for these, or train on a cohort that has the others."
                )
        return codes

    def strata(self, codes: np.ndarray) -> np.ndarray:
        """One integer per sample for the combination of its conditions, (n_samples,) int64."""
        return np.ravel_multi_index(tuple(codes.T), self.sizes).astype(np.int64)


def choose_lower_bound(train: np.ndarray) -> float | None:
    """The value that drawn values are clipped at, for training profiles (n, n_genes): 0, or their minimum if lower.

    None where more than ``RARE`` of the training values lie there: without a marginal map, clipping would then raise
    the means of many genes together, which distorts the profiles more than single values below zero do
    (docs/decisions/0003).
    """
    lowest = min(0.0, float(train.min()))
    return lowest if np.count_nonzero(train <= lowest) <= RARE * train.size else None


def join(train: ad.AnnData, validation: ad.AnnData) -> ad.AnnData:
    """Training and validation profiles of the same genes as one set, for ``train_on: train_and_validation``."""
    require_same_genes(validation, train.var_names, "a generator trained on both")
    values = np.concatenate([dense(train), dense(validation)])
    return make_profiles(values, pd.concat([train.obs, validation.obs]), train.var, str(train.uns["unit"]))


@dataclass(eq=False)
class Generator(ABC):
    """A fitted generator of expression profiles.

    A subclass sets ``name`` and writes ``fit_model``, ``sample_codes``, ``state`` and ``restore``; it overrides
    ``memory_to_fit`` if it knows better. Labels, units, gene lists, the marginal map and the folder on disk are handled
    here. ``fit_model`` starts with ``model = cls(**cls.checked(train, validation, options))``.

    Attributes:
        genes: the gene table (``var``) of the profiles, in order.
        conditions: the covariates the generator is conditioned on.
        unit: the unit of the profiles it was trained on and that it returns.
        settings: the options it was fitted with, as plain JSON.
        record: what happened in training, as plain JSON (losses, seconds, chosen values).
        lower_bound: drawn values are clipped at it; None for no clipping, see ``choose_lower_bound``.
        marginal_map: gives drawn values the distribution of the training values, gene by gene; None for none.
    """

    name: ClassVar[str]

    genes: pd.DataFrame
    conditions: Conditions
    unit: str
    settings: dict[str, Any]
    record: dict[str, Any] = field(default_factory=dict)
    lower_bound: float | None = None
    marginal_map: MarginalMap | None = None

    # ------------------------------------------------------------------ what a subclass writes
    @classmethod
    @abstractmethod
    def fit_model(cls, train: ad.AnnData, validation: ad.AnnData, options: Any) -> Self:
        """What ``fit`` does, without the marginal map."""

    @abstractmethod
    def sample_codes(self, codes: np.ndarray, seed: int, batch_size: int) -> np.ndarray:
        """Profiles (n, n_genes) float32 in the training unit, one per row of category codes (n, n_conditions).

        All randomness comes from ``seed``; ``batch_size`` profiles are drawn at a time, which bounds memory.
        """

    @abstractmethod
    def state(self) -> dict[str, np.ndarray]:
        """Every array needed to sample again."""

    @abstractmethod
    def restore(self, tensors: dict[str, np.ndarray]) -> None:
        """Take the arrays of ``state`` back; the attributes above are already set.

        A KeyError, RuntimeError or ValueError here tells ``load`` that arrays and settings do not fit together.
        """

    @classmethod
    def memory_to_fit(cls, profiles: int, others: int, genes: int, options: Any) -> float:
        """Bytes that ``fit`` takes at its peak beside the training profiles and the ``others`` of validation.

        By default those of two copies in float64.
        """
        return 17.0 * profiles * genes

    # ------------------------------------------------------------------ what all generators share
    @classmethod
    def fit(cls, train: ad.AnnData, validation: ad.AnnData, options: Any) -> Self:
        """Fit on ``train``; ``validation`` (other donors) serves choices only, unless ``train_on`` says otherwise.

        Both are (n_samples, n_genes) AnnData in the same log unit with the same genes. What subclasses need beyond
        that is said there.

        Raises:
            ValueError: on unknown labels or differing genes.
        """
        if getattr(options, "train_on", "train") == "train_and_validation":
            train = join(train, validation)
        model = cls.fit_model(train, validation, options)
        if options.marginal_map and train.n_obs:
            model.fit_marginal_map(train, options.seed)
        return model

    def fit_marginal_map(self, train: ad.AnnData, seed: int) -> None:
        """Set ``marginal_map`` from draws with the labels of the training profiles (n, n_genes), and the lower bound.

        The draws are ``draws_for`` many. With the map, values at the lower bound are as many as in training, so that
        clipping there moves no gene's mean.
        """
        values = dense(train)
        count = draws_for(*values.shape)
        rows = np.resize(np.random.default_rng(seed).permutation(len(values)), count)
        codes = self.conditions.to_codes(train.obs)[rows]
        self.marginal_map = MarginalMap.fit(self.draw_for_map(codes, seed + SEED_OFFSET), values)
        if self.settings["lower_bound"] == "data":
            self.lower_bound = min(0.0, float(values.min()))

    def draw_for_map(self, codes: np.ndarray, seed: int) -> np.ndarray:
        """Draws (n, n_genes) that the marginal map is fitted to, neither mapped nor clipped."""
        return self.sample_codes(codes, seed, 1024)

    @classmethod
    def checked(cls, train: ad.AnnData, validation: ad.AnnData, options: Any) -> dict[str, Any]:
        """The constructor's arguments, after the checks that every ``fit`` needs.

        Raises:
            ValueError: if genes differ, a condition is missing, validation has unknown labels, or a scaling that undoes
                log2(x + 1) is asked for in another scale.
            NotEnoughMemoryError: if ``memory_to_fit`` is more than there is.
        """
        require_same_genes(validation, train.var_names, f"{cls.name} (its training data)")
        scaling, unit = getattr(options, "scaling", ""), str(train.uns["unit"])
        if scaling.startswith("linear") and linear_unit(unit) is None:
            raise ValueError(
                f"{cls.name}: `scaling: {scaling}` undoes log2(x + 1), and the profiles are in {unit}. Set `scaling` "
                f"to {scaling.removeprefix('linear_')}."
            )
        needed = cls.memory_to_fit(train.n_obs, validation.n_obs, train.n_vars, options)
        if options.marginal_map:
            needed = max(needed, memory_of_map(train.n_obs, train.n_vars))
        require_memory(f"fitting {cls.name} to {train.n_obs} x {train.n_vars} values", needed, SMALLER)
        conditions = Conditions.of(train.obs, options.conditions)
        conditions.to_codes(validation.obs)
        return {
            "genes": train.var.copy(),
            "conditions": conditions,
            "unit": unit,
            "settings": options.model_dump(mode="json"),
            "lower_bound": choose_lower_bound(dense(train)) if options.lower_bound == "data" else None,
        }

    def sample(
        self, labels: pd.DataFrame | Mapping[str, int] | None = None, seed: int = 0, batch_size: int = 1024
    ) -> ad.AnnData:
        """Draw profiles (n, n_genes) in the unit of training.

        Args:
            labels: how many by label, such as ``{"lung": 500}``; or a sample table with a column per condition, whose
                rows set number and order; None for as many as in training, in its proportions.
            seed: the same seed gives the same profiles.
            batch_size: how many profiles are drawn at a time; it bounds memory.

        Raises:
            ValueError: if a label is unknown to the model, or the model yields non-finite values.
        """
        labels = self.labels_of(labels)
        drawn = self.sample_codes(self.conditions.to_codes(labels), seed, batch_size)
        return self.as_profiles(self.finish(drawn), labels, seed, name=self.name)

    def labels_of(self, labels: pd.DataFrame | Mapping[str, int] | None) -> pd.DataFrame:
        """What ``sample`` is asked for as a table with a row per profile."""
        return labels if isinstance(labels, pd.DataFrame) else label_table(self, labels)

    def finish(self, values: np.ndarray) -> np.ndarray:
        """Values (n, n_genes) as ``sample_codes`` draws them through the marginal map, at ``lower_bound`` or above."""
        if self.marginal_map is not None:
            values = self.marginal_map(values)
        return values if self.lower_bound is None else np.maximum(values, self.lower_bound)

    def as_profiles(self, values: np.ndarray, labels: pd.DataFrame, seed: int, name: str, **details: Any) -> ad.AnnData:
        """Profiles of ``values`` (n, n_genes) with their labels; ``name`` and ``details`` go into ``uns``."""
        obs = mark_extrapolated(labels[list(self.conditions.names)].astype(str), self.record.get("training_labels", []))
        obs.index = pd.Index([f"{name}-{i}" for i in range(len(obs))], name="sample")
        return make_profiles(
            values,
            obs,
            self.genes,
            self.unit,
            generator={"name": name, "seed": seed, "settings": self.settings, **details},
        )

    def save(self, folder: Path) -> None:
        """Write ``model.json``, ``tensors.safetensors`` and ``model_card.md`` into ``folder``, whole or not at all."""
        description = {
            "kind": "generator",
            "name": self.name,
            "unit": self.unit,
            "conditions": {name: list(known) for name, known in self.conditions.categories.items()},
            "genes": genes_to_json(self.genes),
            "settings": self.settings,
            "record": self.record,
            "lower_bound": self.lower_bound,
        }
        tensors = self.state()
        if self.marginal_map is not None:
            tensors |= {f"marginal_map.{name}": values for name, values in vars(self.marginal_map).items()}
        write_model(Path(folder), description, tensors, {CARD_FILE: model_card(description)})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            ArtefactError: if the folder is missing, broken, or holds another kind of model.
        """
        found, tensors = read_model(folder, "generator", cls.name)
        try:
            model = cls(
                genes=genes_from_json(found["genes"]),
                conditions=Conditions({k: tuple(v) for k, v in found["conditions"].items()}),
                unit=found["unit"],
                settings=found["settings"],
                record=found["record"],
                lower_bound=found["lower_bound"],
            )
            if found["settings"].get("marginal_map"):
                model.marginal_map = MarginalMap(*(tensors.pop(f"marginal_map.{name}") for name in ("drawn", "real")))
            model.restore(tensors)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ArtefactError(
                f"{folder}: the arrays do not fit the description beside them ({error}); train the model again."
            ) from error
        return model
