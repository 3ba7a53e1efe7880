"""The public functions that need neither Kedro nor a project: prepare and split profiles, fit, score.

They take AnnData: samples x genes, a column ``tissue`` and, where samples share donors, a column ``donor`` in ``obs``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, NamedTuple

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.artefacts import replaced_when_whole
from transcriptome_diffusion.checkpoints import checkpoints_in
from transcriptome_diffusion.expression.normalise import is_counts, log2_of_counts
from transcriptome_diffusion.expression.options import SplitOptions
from transcriptome_diffusion.expression.profiles import GENE_COLUMNS, dense, make_profiles
from transcriptome_diffusion.expression.splitting import SPLITS, assign_splits, summarise_splits, take_splits
from transcriptome_diffusion.expression.unit_check import check_unit
from transcriptome_diffusion.expression.units import (
    COUNTS,
    LARGEST_LOG,
    keep_transformed,
    linear_unit,
    to_log2,
    undo_log,
)
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.metrics.options import EvaluationOptions

logger = logging.getLogger(__name__)

#: of the genes of real and synthetic profiles, the share that both need to have
SHARED = 0.5
#: where the genes that are given stand on the scorecard, however many they are
SPACE = "landmarks"
#: difference of mean expression, in log2 units, from which another unit is suspected
FAR = 2.0
#: share of negative values that is no expression in log2(x + 1)
NEGATIVE = 0.2


def prepare(
    data: ad.AnnData,
    unit: str | None = None,
    label: str = "tissue",
    donor: str = "donor",
    transformed: bool = False,
    unit_check: Literal["refuse", "warn"] = "refuse",
) -> ad.AnnData:
    """Profiles as every function here takes them, from AnnData of any origin.

    Args:
        data: (n_samples, n_genes), dense or sparse, without missing values.
        unit: of the values, such as ``counts``, ``TPM``, ``log2(TPM + 1)`` or ``ln(CP10K + 1)``; None: that of
            ``uns["unit"]``.
        label: column of ``obs`` with the class labels; it becomes ``tissue``.
        donor: column of ``obs`` with the donors; without it every sample is a donor of its own.
        transformed: values that are kept as they are, such as VST, rlog, voom or corrected logarithms; ``unit`` is the
            name of their scale.
        unit_check: whether values that contradict the unit are an error, or are only said in the log.

    Returns:
        New AnnData in log2(x + 1), float32. Counts become counts per million.

    Raises:
        ValueError: if the unit is not known or contradicts the values, the label is missing, or values are not finite.
    """
    unit = unit or data.uns.get("unit")
    if not unit:
        raise ValueError(
            'the profiles declare no unit. Name it (`unit="log2(TPM + 1)"`, or --unit on the command line), or set '
            'uns["unit"]: counts, TPM, log2(TPM + 1), ln(CP10K + 1), ...'
        )
    if label not in data.obs:
        raise ValueError(f"obs has no column {label!r} with the class labels; it has {list(data.obs.columns)}.")
    if data.obs[label].isna().any():
        raise ValueError(f"{int(data.obs[label].isna().sum())} of {data.n_obs} samples have no {label!r}.")
    obs = data.obs.assign(tissue=data.obs[label].astype(str))
    if donor in data.obs:
        obs["donor"] = data.obs[donor].astype(str)
    elif donor != "donor":
        raise ValueError(f"obs has no column {donor!r} with the donors; it has {list(data.obs.columns)}.")
    var = data.var.assign(**{name: _gene_column(data, name) for name in GENE_COLUMNS if name not in data.var})
    values = np.array(dense(data), dtype=np.float32)
    if transformed:
        return keep_transformed(make_profiles(values, obs, var, str(unit)))
    logged = values.copy() if linear_unit(str(unit)) not in (None, COUNTS) else None
    # generated profiles may lie a little below zero
    linear = undo_log(values, str(unit), "refuse" if logged is None else "keep")
    profiles = make_profiles(values, obs, var, linear)
    profiles.uns["declared_unit"] = str(unit)
    check_unit(profiles, unit_check)
    if logged is not None:
        return make_profiles(logged, obs, var, str(unit))
    return log2_of_counts(profiles, "cpm") if is_counts(profiles) else to_log2(profiles)


def _gene_column(data: ad.AnnData, name: str) -> Any:
    """What ``var`` lacks: names of genes from its index; no gene is known for a landmark."""
    return False if name == "is_landmark" else data.var_names if name == "symbol" else ""


class Splits(NamedTuple):
    """Profiles of different donors, each (n, n_genes): for fitting, for choices while fitting, and held out."""

    train: ad.AnnData
    validation: ad.AnnData
    test: ad.AnnData


def split(profiles: ad.AnnData, seed: int = 0, column: str | None = None, folds: int = 10) -> Splits:
    """Train, validation and test: 70, 10 and 20 % of the donors, with all samples of a donor on one side.

    Args:
        profiles: as ``prepare`` returns them.
        seed: another seed, another split.
        column: of ``obs``, says ``train``, ``validation`` or ``test`` for every sample, instead of a new split.
        folds: into which donors are divided, tissue by tissue; two are for test and one for validation. Fewer folds
            suit tissues with few donors.

    Raises:
        ValueError: if a tissue has fewer donors than folds, or the column lacks one of the three.
    """
    obs = profiles.obs
    if column is not None:
        if column not in obs:
            raise ValueError(f"obs has no column {column!r} with the split; it has {list(obs.columns)}.")
        parts = obs[column].astype(str)
        if missing := [name for name in SPLITS if name not in set(parts)]:
            raise ValueError(f"the column {column!r} holds {sorted(set(parts))}; {missing} are missing.")
        return Splits(*(profiles[(parts == name).to_numpy()].copy() for name in SPLITS))
    if "donor" not in obs:
        logger.warning("The profiles have no column 'donor': every sample is taken for a donor of its own.")
        obs = obs.assign(donor=profiles.obs_names)
    parts = take_splits(profiles, assign_splits(obs, SplitOptions(seed=seed, n_folds=folds)))
    return Splits(*(parts[name].copy() for name in SPLITS))


def fit(
    generator: str, train: ad.AnnData, validation: ad.AnnData, checkpoint: str | Path | None = None, **options: Any
) -> Generator:
    """Train a generator.

    Args:
        generator: its name on the scorecard: ``class_gaussian``, ``vae``, ``flow_matching``, ``ddim``, ...
        train: (n, n_genes), as ``prepare`` and ``split`` return it.
        validation: of other donors, with the same genes; choices are made on it, such as when to stop.
        checkpoint: a folder of this training alone, where a long one keeps what it needs to go on: the same call
            after its process was killed continues it. The folder is removed at its end.
        options: of the generator, as in its block of parameters, for instance ``training={"max_steps": 500}``.

    Returns:
        A model with ``sample({"lung": 500}, seed=1)`` and ``save(folder)``, which ``load_generator`` reads.

    Raises:
        ValueError: if generator or option are unknown, or profiles do not fit.
    """
    from transcriptome_diffusion.generators.registry import GENERATORS
    from transcriptome_diffusion.generators.runs import training_facts

    if generator not in GENERATORS:
        raise ValueError(f"no generator is called {generator!r}; the known ones are {list(GENERATORS)}.")
    spec = GENERATORS[generator]
    if spec.sampler:
        options["sampler"] = {"name": generator, **options.get("sampler", {})}
    cls, checked = spec.load_class(), spec.options.model_validate(options)
    with checkpoints_in(checkpoint, options=checked.model_dump(mode="json")) if checkpoint else nullcontext():
        model = cls.fit(_declared(train), _declared(validation), checked)
    model.record |= training_facts(model, train)
    return model


def score(
    train: ad.AnnData,
    validation: ad.AnnData,
    test: ad.AnnData,
    synthetic: Mapping[str, ad.AnnData],
    options: EvaluationOptions | Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """The scorecard of synthetic profiles of any origin, with reference rows beside them.

    The rows ``real``, ``memoriser`` and ``class_gaussian`` are made here, the ceiling, a warning and a floor; and
    ``refit`` and ``expected``, what so many profiles allow and what is expected of new ones.

    Args:
        train: the real profiles that the synthetic ones were learnt from. validation, test: of other donors.
        synthetic: by the name of its row, profiles in the unit of ``train`` with its labels in ``obs["tissue"]``.
            Genes that some lack are left out for all.
        options: ``EvaluationOptions``, or some of them by name, such as ``{"draws": 5}``.

    Returns:
        The scorecard in its long form, see docs/scorecard.md. The genes that are given, however many, are the space
        ``landmarks``.

    Raises:
        ValueError: if units, labels or genes do not fit.
    """
    return compare(Splits(train, validation, test), synthetic, options).scorecard


class Comparison(NamedTuple):
    """What a comparison yields; ``write`` makes files of it.

    Attributes:
        scorecard, draws, by_tissue: tables, as a run of the project writes them.
        report: the page, if it was asked for.
    """

    scorecard: pd.DataFrame
    draws: pd.DataFrame
    by_tissue: pd.DataFrame
    report: str | None = None

    def write(self, folder: str | Path) -> Path:
        """Write ``scorecard.csv``, ``draws.csv``, ``by_tissue.csv`` and ``report.html`` into ``folder``."""
        folder = Path(folder)
        for name in ("scorecard", "draws", "by_tissue"):
            with replaced_when_whole(folder / f"{name}.csv") as staging:
                getattr(self, name).to_csv(staging, index=False)
        if self.report is not None:
            with replaced_when_whole(folder / "report.html") as staging:
                staging.write_text(self.report, encoding="utf-8")
        return folder


def compare(
    real: Splits,
    synthetic: Mapping[str, ad.AnnData],
    options: EvaluationOptions | Mapping[str, Any] | None = None,
    report: bool = False,
) -> Comparison:
    """What ``score`` does, with all tables and, on request, the report.

    Args and errors: as ``score``.
    """
    from transcriptome_diffusion.generators.memoriser import memorise
    from transcriptome_diffusion.generators.options import ClassGaussianOptions
    from transcriptome_diffusion.metrics import scores
    from transcriptome_diffusion.metrics.reference import EvaluationReference, SpaceReference
    from transcriptome_diffusion.reporting.scorecard import collect, summarise

    if not isinstance(options, EvaluationOptions):
        options = EvaluationOptions.model_validate(dict(options or {}))
    if not synthetic:
        raise ValueError("no synthetic profiles were given; expected {name: profiles}.")
    if reserved := {"real", "refit", "expected", "memoriser"} & set(synthetic):
        raise ValueError(f"{sorted(reserved)} name rows of the scorecard already; give the profiles another name.")
    real, synthetic = _matched(real, synthetic, options.label)
    floor = ClassGaussianOptions(conditions=[options.label])
    rows = {"memoriser": memorise(real.train, real.train.obs, [options.label], options.seed)}
    if "class_gaussian" not in synthetic:
        gaussian = fit("class_gaussian", real.train, real.validation, **floor.model_dump())
        rows["class_gaussian"] = gaussian.sample(real.train.obs, options.seed)
    rows |= synthetic
    space = SpaceReference.fit(dict(zip(SPLITS, real, strict=True)), {}, options)
    reference = EvaluationReference(None, {SPACE: space})
    tables = [scores.score_real(reference, options)]
    for name, profiles in rows.items():
        logger.info("Scoring %s: %d profiles of %d genes", name, profiles.n_obs, profiles.n_vars)
        tables.append(scores.score_generator(name, profiles, {}, reference, options))
    draws, by_tissue = collect(tables)
    found = Comparison(summarise(draws), draws, by_tissue)
    return found._replace(report=_report(found, real, rows, space, options)) if report else found


def _report(
    found: Comparison, real: Splits, rows: Mapping[str, ad.AnnData], space: Any, options: EvaluationOptions
) -> str:
    from transcriptome_diffusion.reporting.profile_figures import profile_figures
    from transcriptome_diffusion.reporting.report import build_report

    split_table = pd.concat(
        [
            pd.DataFrame({"sample": part.obs_names, "tissue": part.obs[options.label].astype(str), "split": name})
            .assign(donor=part.obs.get("donor", part.obs_names.to_series()).astype(str).to_numpy())
            for name, part in zip(SPLITS, real, strict=True)
        ],
        ignore_index=True,
    )  # fmt: skip
    none = pd.DataFrame()
    tables = {
        "scorecard": found.scorecard,
        "draws": found.draws,
        "by_tissue": found.by_tissue,
        "cohort_summary": summarise_splits(split_table),
        **dict.fromkeys(("reconstruction_quality", "training_summary"), none),
        "training_curves": pd.DataFrame({"generator": []}),
    }
    facts = {
        "unit": real.train.uns["unit"],
        "training profiles": real.train.n_obs,
        "validation profiles": real.validation.n_obs,
        "held-out profiles": real.test.n_obs,
        "labels": real.train.obs[options.label].nunique(),
        "genes": real.train.n_vars,
    }
    figures = profile_figures(real.train, real.test, space.scaler, rows, options.label, options.umap)
    return build_report(tables, figures, facts, {"evaluation": options.model_dump(mode="json")}, "The genes given,")


def _declared(profiles: ad.AnnData) -> ad.AnnData:
    """The profiles, if they are in log2(x + 1) or a transformed scale and have the columns of genes."""
    logarithmic = "unit" in profiles.uns and float(dense(profiles).max(initial=0)) <= LARGEST_LOG
    if not logarithmic or any(name not in profiles.var for name in GENE_COLUMNS):
        raise ValueError(
            f"profiles in log2(x + 1) were expected, with uns['unit'] and the columns {list(GENE_COLUMNS)} of var; "
            f"found the unit {profiles.uns.get('unit')!r} and {list(profiles.var.columns)}. "
            "transcriptome_diffusion.prepare(data, unit=...) makes such profiles of any AnnData."
        )
    return profiles


def _matched(real: Splits, synthetic: Mapping[str, ad.AnnData], label: str) -> tuple[Splits, dict[str, ad.AnnData]]:
    """Real and synthetic profiles on the genes that all of them have, in the order of the training profiles.

    Raises:
        ValueError: if fewer than half of the genes are shared, a unit differs, or a label is missing or unknown.
    """
    unit, genes = str(_declared(real.train).uns["unit"]), real.train.var_names
    known = set(real.train.obs[label].astype(str)) if label in real.train.obs else set()
    for name, profiles in synthetic.items():
        if label not in profiles.obs:
            raise ValueError(f"{name}: obs has no column {label!r}; it has {list(profiles.obs.columns)}.")
        if unknown := sorted(set(profiles.obs[label].astype(str)) - known):
            raise ValueError(
                f"{name} has labels that the real profiles lack: {unknown[:5]}; they have {sorted(known)}."
            )
        shared = genes.intersection(profiles.var_names)
        if len(shared) < max(2, SHARED * min(len(genes), profiles.n_vars)):
            raise ValueError(
                f"{name} shares {len(shared)} of its {profiles.n_vars} genes with the {len(genes)} real ones: its "
                f"genes are named like {profiles.var_names[0]!r}, the real ones like {genes[0]!r}. Name both alike "
                "(the index of var), for instance by Ensembl id without version."
            )
        _require_unit(name, profiles, real.train, unit)
        genes = genes[genes.isin(shared)]
    if len(genes) < real.train.n_vars:
        logger.warning(
            "%d of %d genes of the real profiles are in all synthetic ones; only these are scored",
            *(len(genes), real.train.n_vars),
        )
    cut = Splits(*(part[:, genes].copy() for part in real))
    return cut, {name: _cut(profiles, genes, unit) for name, profiles in synthetic.items()}


def _cut(profiles: ad.AnnData, genes: pd.Index, unit: str) -> ad.AnnData:
    cut = profiles[:, genes]
    return make_profiles(dense(cut), cut.obs, cut.var, unit)


def _require_unit(name: str, profiles: ad.AnnData, train: ad.AnnData, unit: str) -> None:
    """Refuse profiles in another unit than ``unit``; without a declared one, values tell."""
    if (declared := profiles.uns.get("unit")) is not None and str(declared) != unit:
        raise ValueError(
            f"{name} is in {declared}, the real profiles are in {unit}. Bring both to one unit: "
            "transcriptome_diffusion.prepare(data, unit=...) makes log2(x + 1) of either."
        )
    values = dense(profiles)
    if (highest := float(values.max())) > LARGEST_LOG:
        raise ValueError(f"{name} reaches {highest:g}, which no value in {unit} does: declare its unit.")
    shared = train.var_names.intersection(profiles.var_names)
    ours, theirs = (float(dense(part[:, shared]).mean()) for part in (train, profiles))
    negative = float((values < 0).mean())
    if abs(ours - theirs) > FAR or (negative > NEGATIVE and float((dense(train) < 0).mean()) < NEGATIVE):
        logger.warning(
            "%s has mean %.3g (%.0f %% below zero), the real profiles %.3g: is it in %s?",
            *(name, theirs, 100 * negative, ours, unit),
        )
