"""The real side of every comparison, computed once: fitted on training donors, with all three splits measured."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.artefacts import TENSOR_FILE, ArtefactError, read_description, write_model
from transcriptome_diffusion.expression.profiles import dense, donors_of, find_unsound, require_same_genes
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.memory import SMALLER, require_memory
from transcriptome_diffusion.metrics.biology import differential, gene_sets
from transcriptome_diffusion.metrics.biology.coexpression import Modules
from transcriptome_diffusion.metrics.biology.findings import Findings
from transcriptome_diffusion.metrics.distances import PrincipalAxes
from transcriptome_diffusion.metrics.neighbours import Pool, distances_to_others, nearest
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.registry import SPACES
from transcriptome_diffusion.metrics.sides import Side
from transcriptome_diffusion.metrics.statistics import thinned_rows
from transcriptome_diffusion.metrics.utility import MAX_INPUTS, TissueFeatures

logger = logging.getLogger(__name__)

KIND = "evaluation_reference"
#: profiles of a set, and genes, that stand for all of larger ones where pairs of them are compared
MOST = 4096
SPLITS = ("train", "validation", "test")
#: parts of a ``ProfileSet`` that are text, on disk numbers of their categories
TEXTS = ("labels", "donors", "conditions")
#: of the file format safetensors
DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4"}


@dataclass(frozen=True, eq=False)
class SpaceReference:
    """Real profiles of one space, and what synthetic ones are measured with; only ``test`` comes from held-out donors.

    Attributes:
        genes: the columns of the profiles it measures, (n_genes,).
        scaler: from the log unit to training standard deviations, the space of all distances.
        axes: principal axes of the training profiles, for the Fréchet distance without a classifier.
        features: hidden layer of a classifier of real tissues, for the Fréchet distance of the paper; None with one
            tissue.
        modules: co-expression modules, or None where training profiles have none.
        gene_sets: columns of the genes of each gene set; empty where the user supplies none.
        train, validation, test: real profiles of different donors.
        train_distances: of each training profile to the nearest other one, (n_train,); None of more than ``MOST``,
            see ``apart``.
        pairs: what ``neighbours.Pool.measured`` needs to know of ``pool``.
        test_distances, test_nearest: of each test profile in ``sampled``, the distance to the nearest training
            profile, and which that is, (n,).
        label, contrast: columns of ``obs`` that hold the class and the condition; None for no condition.
    """

    genes: pd.Index
    scaler: GeneScaler
    axes: PrincipalAxes
    features: TissueFeatures | None
    modules: Modules | None
    gene_sets: Mapping[str, np.ndarray]
    train: ProfileSet
    validation: ProfileSet
    test: ProfileSet
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray]
    train_distances: np.ndarray | None
    test_distances: np.ndarray
    test_nearest: np.ndarray
    label: str
    contrast: str | None

    @classmethod
    def fit(
        cls, profiles: Mapping[str, ad.AnnData], sets: Mapping[str, Sequence[str]], options: EvaluationOptions
    ) -> Self:
        """Fit on train (the classifier stops early on validation), then measure all three splits.

        Args:
            profiles: (n, n_genes) in the log unit, by the names of ``SPLITS``. sets: as ``read_gmt`` returns them.

        Raises:
            ValueError: if genes differ, values are not finite, or there are fewer than two profiles.
            NotEnoughMemoryError: before anything is computed.
        """
        train = profiles["train"]
        rows = train.n_obs + sum(profiles[split].n_obs for split in SPLITS)
        # all standardised, the copy that axes are looked for in, and three times the classifier's axes
        needed = 4.0 * (rows + 3 * MAX_INPUTS) * train.n_vars
        # all pairs, and the copies that stand for larger sets
        known = [min(profiles[split].n_obs, MOST) for split in SPLITS]
        needed += 8.0 * sum(known) ** 2 + 4.0 * sum(n for n in known if n == MOST) * train.n_vars
        require_memory(f"fitting the evaluation reference of {train.n_vars} genes", needed, SMALLER)
        for split in SPLITS:
            _sound(profiles[split], train.var_names)
        label, contrast = options.label, options.contrast.column if options.contrast else None
        columns = gene_sets.match_gene_sets(sets, train.var[options.gene_names].astype(str)) if sets else {}
        scaler = GeneScaler.fit(dense(train))
        try:
            modules = Modules.fit(dense(train), _text(train, label))
        except ValueError as error:
            logger.info("no co-expression modules on the scorecard: %s", error)
            modules = None
        parts = {split: ProfileSet(scaler(dense(profiles[split])), _text(profiles[split], label)) for split in SPLITS}
        axes = PrincipalAxes.fit(parts["train"].values, options.components)
        features = None
        if len(np.unique(parts["train"].labels)) > 1:
            features = TissueFeatures.fit(sample(parts["train"]), parts["validation"], options.classifier)
        measured = {
            split: _measured(part.values, profiles[split], axes, features, label, contrast)
            for split, part in parts.items()
        }
        values, sampled = parts["train"].values, [sample(part).values for part in parts.values()]
        pool, n, train_distances = Pool(*sampled), len(values), None
        if n > MOST:
            test_distances, test_nearest = nearest(sampled[-1], values)
        else:
            to_train = pool.squares[-len(sampled[-1]) :, :n]
            test_nearest = to_train.argmin(axis=1)
            test_distances = np.sqrt(to_train.min(axis=1), dtype=np.float64)
            others = np.where(np.eye(n, dtype=bool), np.inf, pool.squares[:n, :n])
            train_distances = np.sqrt(others.min(axis=1))
        return cls(
            genes=train.var_names,
            scaler=scaler,
            axes=axes,
            features=features,
            modules=modules,
            gene_sets=columns,
            **measured,
            pairs=(pool.squares, pool.errors, pool.centre),
            train_distances=train_distances,
            test_distances=test_distances,
            test_nearest=test_nearest,
            label=label,
            contrast=contrast,
        )

    def measure(self, profiles: ad.AnnData) -> ProfileSet:
        """Synthetic profiles as the metrics take them; without a column ``donor`` each is its own unit.

        Raises:
            ValueError: if the genes are not those of the training profiles, in order, or values are not finite.
        """
        values = self.scaler(_sound(profiles, self.genes))
        return _measured(values, profiles, self.axes, self.features, self.label, self.contrast)

    def apart(self, rows: np.ndarray) -> np.ndarray:
        """Of some training profiles (n,), the distance of each to the nearest other training profile, (n,)."""
        if self.train_distances is not None:
            return self.train_distances[rows]
        found, places = np.unique(rows, return_inverse=True)
        return distances_to_others(self.train.values, found)[places]

    @cached_property
    def sampled(self) -> dict[str, ProfileSet]:
        """``sample`` of the real profiles, by the names of ``SPLITS``."""
        return {split: sample(getattr(self, split)) for split in SPLITS}

    @cached_property
    def pool(self) -> Pool:
        """All pairs of the profiles in ``sampled``."""
        return Pool.measured([part.values for part in self.sampled.values()], *self.pairs)

    @cached_property
    def sides(self) -> dict[str, Side]:
        """The profiles in ``sampled`` as sides of comparisons, by the names of ``SPLITS``."""
        ends = np.cumsum([len(part.labels) for part in self.sampled.values()])
        places = np.split(np.arange(ends[-1]), ends[:-1])
        return {
            split: self._side(part, self.pool, where)
            for (split, part), where in zip(self.sampled.items(), places, strict=True)
        }

    def place(self, profiles: ProfileSet) -> Side:
        """Profiles as a side of a comparison: one of the real ones, or measured against all of them now."""
        for split, side in self.sides.items():
            if profiles is getattr(self, split):
                return side
        kept, real = sample(profiles), len(self.pool.values)
        return self._side(kept, Pool(kept.values, known=self.pool), np.arange(real, real + len(kept.labels)))

    def _side(self, profiles: ProfileSet, pool: Pool, places: np.ndarray) -> Side:
        return Side(profiles, pool, places, self.compared, self.modules.genes if self.modules else None)

    @cached_property
    def compared(self) -> np.ndarray:
        """Columns of the genes whose correlations and distributions are compared: all, or ``MOST`` at random.

        They are the same for every set.
        """
        genes = len(self.genes)
        return np.arange(genes) if genes <= MOST else np.sort(np.random.default_rng(0).choice(genes, MOST, False))

    def groups_of(self, profiles: ProfileSet, labels: np.ndarray) -> differential.Groups:
        """Means and variances of the groups ``labels`` (n,) in the log unit."""
        return differential.Groups.of(profiles.values, labels).rescaled(self.scaler.scale)

    @cached_property
    def test_groups(self) -> differential.Groups:
        """``groups_of`` the test profiles by class."""
        return self.groups_of(self.test, self.test.labels)

    @cached_property
    def test_condition_groups(self) -> differential.Groups | None:
        """``groups_of`` the test profiles by class and condition; None where they have no conditions."""
        if self.test.conditions is None:
            return None
        return self.groups_of(self.test, differential.joint_labels(self.test.labels, self.test.conditions))

    def findings_of(self, values: np.ndarray, labels: np.ndarray) -> Findings:
        """Network, differences between classes and attributions of profiles (n, n_genes) and their classes (n,)."""
        return Findings.of(values, labels, self.scaler.scale)

    @cached_property
    def test_findings(self) -> Findings:
        """``findings_of`` the test profiles."""
        return self.findings_of(self.test.values, self.test.labels)

    @cached_property
    def test_gene_set_scores(self) -> np.ndarray:
        """Of the test profiles, (n_test, n_sets)."""
        return gene_sets.score_gene_sets(self.test.values, self.gene_sets)

    # ------------------------------------------------------------------------------------------ on disk
    def to_tensors(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Description (plain JSON) and arrays, from which ``from_tensors`` makes the same reference."""
        found: dict[str, Any] = {
            "genes": list(self.genes),
            "gene_sets": list(self.gene_sets),
            "hidden_layers": len(self.features.layers) if self.features else 0,
            "label": self.label,
            "contrast": self.contrast,
            "categories": {},
        }
        tensors = {
            "scaler.mean": self.scaler.mean,
            "scaler.scale": self.scaler.scale,
            "axes.centre": self.axes.centre,
            "axes.axes": self.axes.axes,
            **{f"pairs.{i}": part for i, part in enumerate(self.pairs)},
            "test_distances": self.test_distances,
            "test_nearest": self.test_nearest,
        }
        if self.train_distances is not None:
            tensors["train_distances"] = self.train_distances
        if self.features is not None:
            for i, (weight, bias) in enumerate(self.features.layers):
                tensors |= {f"features.{i}.weight": weight, f"features.{i}.bias": bias}
        if self.modules is not None:
            tensors |= {"modules.genes": self.modules.genes, "modules.correlation": self.modules.correlation}
            tensors |= _joined("modules", self.modules.members)
        if self.gene_sets:
            tensors |= _joined("gene_sets", [*self.gene_sets.values()])
        for split in SPLITS:
            for name, part in getattr(self, split)._asdict().items():
                key = f"{split}.{name}"
                if part is not None and name in TEXTS:
                    categories, tensors[key] = np.unique(part, return_inverse=True)
                    found["categories"][key] = categories.tolist()
                elif part is not None:
                    tensors[key] = part
        return found, tensors

    @classmethod
    def from_tensors(cls, found: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Self:
        """What ``to_tensors`` gave.

        Raises:
            KeyError: if something is missing.
        """
        splits = {}
        for split in SPLITS:
            parts: dict[str, Any] = {name: tensors.get(f"{split}.{name}") for name in ProfileSet._fields}
            for name in TEXTS:
                if parts[name] is not None:
                    parts[name] = np.array(found["categories"][f"{split}.{name}"], dtype=object)[parts[name]]
            splits[split] = ProfileSet(**parts)
        modules = None
        if "modules.genes" in tensors:
            members = tuple(_split("modules", tensors))
            modules = Modules(tensors["modules.genes"], members, tensors["modules.correlation"])
        layers, sets = range(found["hidden_layers"]), found["gene_sets"]
        return cls(
            genes=pd.Index(found["genes"]),
            scaler=GeneScaler(tensors["scaler.mean"], tensors["scaler.scale"]),
            axes=PrincipalAxes(tensors["axes.centre"], tensors["axes.axes"]),
            features=TissueFeatures(
                tuple((tensors[f"features.{i}.weight"], tensors[f"features.{i}.bias"]) for i in layers)
            )
            if layers
            else None,
            modules=modules,
            gene_sets=dict(zip(sets, _split("gene_sets", tensors), strict=True)) if sets else {},
            **splits,
            pairs=(tensors["pairs.0"], tensors["pairs.1"], tensors["pairs.2"]),
            train_distances=tensors.get("train_distances"),
            test_distances=tensors["test_distances"],
            test_nearest=tensors["test_nearest"],
            label=found["label"],
            contrast=found["contrast"],
        )


@dataclass(frozen=True, eq=False)
class EvaluationReference:
    """``SpaceReference`` by space (``landmarks``, ``transcriptome``); what was saved is read at first use.

    Attributes:
        folder: where spaces that are not in memory are read from.
    """

    folder: Path | None = None
    _spaces: dict[str, SpaceReference] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        landmarks: Mapping[str, ad.AnnData],
        expression: Mapping[str, ad.AnnData],
        gene_sets: Mapping[str, Sequence[str]],
        options: EvaluationOptions,
    ) -> Self:
        """Fit both spaces.

        Args:
            landmarks, expression: real profiles by split, ``train``, ``validation`` and ``test``.
            gene_sets: as ``read_gmt`` returns them; may be empty.

        Raises:
            ValueError, NotEnoughMemoryError: as ``SpaceReference.fit``.
        """
        profiles = zip(SPACES, (landmarks, expression), strict=True)
        return cls(None, {space: SpaceReference.fit(parts, gene_sets, options) for space, parts in profiles})

    @property
    def spaces(self) -> tuple[str, ...]:
        """Those that can be asked for."""
        return SPACES if self.folder is not None else tuple(space for space in SPACES if space in self._spaces)

    def __getitem__(self, space: str) -> SpaceReference:
        if space not in self._spaces:
            if self.folder is None or space not in SPACES:
                raise KeyError(f"the evaluation reference has {sorted(self._spaces)}, asked for {space!r}.")
            self._spaces[space] = _read(self.folder, space)
        return self._spaces[space]

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``tensors.safetensors`` into ``folder``, whole or not at all."""
        description: dict[str, Any] = {"kind": KIND, "name": KIND, "spaces": {}}
        tensors: dict[str, np.ndarray] = {}
        for space in SPACES:
            description["spaces"][space], parts = self[space].to_tensors()
            tensors |= {f"{space}.{name}": part for name, part in parts.items()}
        write_model(Path(folder), description, tensors)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """What ``save`` wrote; arrays are mapped from the file, and read as far as they are used.

        Raises:
            ArtefactError: if the folder is missing or holds something else.
        """
        found = read_description(folder)
        if found.get("kind") != KIND:
            raise ArtefactError(f"{folder} holds {found.get('kind')!r}, expected {KIND!r}; run the evaluation again.")
        return cls(Path(folder))


def _read(folder: Path, space: str) -> SpaceReference:
    prefix = f"{space}."
    mapped = _mapped(folder / TENSOR_FILE)
    tensors = {name.removeprefix(prefix): part for name, part in mapped.items() if name.startswith(prefix)}
    try:
        return SpaceReference.from_tensors(read_description(folder)["spaces"][space], tensors)
    except KeyError as error:
        raise ArtefactError(f"{folder} lacks {error} of {space}; run the evaluation again from its start.") from error


def _mapped(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, mapped: processes that read them share one copy, and changes stay private."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):  # checks header and size
            pass
    except (OSError, SafetensorError) as error:
        raise ArtefactError(f"cannot read {path} ({error}); run the evaluation again from its start.") from error
    with path.open("rb") as file:
        start = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start))
    header.pop("__metadata__", None)
    data = np.asarray(np.memmap(path, mode="c", offset=8 + start))
    return {
        name: data[slice(*part["data_offsets"])].view(DTYPES[part["dtype"]]).reshape(part["shape"])
        for name, part in header.items()
    }


def _joined(name: str, parts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}.members": np.concatenate(parts), f"{name}.sizes": np.array([len(part) for part in parts])}


def _split(name: str, tensors: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return np.split(tensors[f"{name}.members"], tensors[f"{name}.sizes"].cumsum()[:-1])


def sample(profiles: ProfileSet) -> ProfileSet:
    """At most ``MOST`` of the profiles, of every class its share; they stand for all where pairs are compared."""
    return profiles if len(profiles.labels) <= MOST else profiles.take(thinned_rows(profiles.labels, MOST))


def _text(profiles: ad.AnnData, column: str) -> np.ndarray:
    return profiles.obs[column].astype(str).to_numpy()


def _sound(profiles: ad.AnnData, genes: pd.Index) -> np.ndarray:
    """The values (n, n_genes), if they are finite and the genes are these."""
    require_same_genes(profiles, genes, "the scorecard")
    values = dense(profiles)
    if unsound := find_unsound(values):
        count, row, column = unsound
        raise ValueError(
            f"{count} values are NaN or infinite, the first in sample {profiles.obs_names[row]!r}, gene "
            f"{profiles.var_names[column]!r}; only finite profiles can be scored."
        )
    return values


def _measured(
    values: np.ndarray,
    profiles: ad.AnnData,
    axes: PrincipalAxes,
    features: TissueFeatures | None,
    label: str,
    contrast: str | None,
) -> ProfileSet:
    obs = profiles.obs
    return ProfileSet(
        values,
        _text(profiles, label),
        donors_of(profiles),
        axes(values),
        features(values) if features is not None else None,
        _text(profiles, contrast) if contrast is not None and contrast in obs else None,
    )
