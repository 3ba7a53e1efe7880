"""Nodes of the report: figures from profiles and tables, and one HTML file."""

from __future__ import annotations

from itertools import islice
from typing import Any

from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.registry import GENERATORS, trained_models
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame, Figure

#: figures that ``plot_profiles`` and ``plot_scores`` make, in their order
OF_PROFILES = ("pca_landmarks", "umap_landmarks", "correlations", "marginals", "fold_changes")
OF_SCORES = (
    *("precision_recall", "accuracies", "by_tissue", "modules", "privacy", "privacy_by_time"),
    "reconstruction_by_gene",
)
#: blocks of parameters that say nothing about what the report shows
BESIDE = ("augmentation", "download", "study", "tuning")
#: shares of the way to noise at which the sampler is looked at, those of the paper's figure 2
STATES = (1.0, 0.6, 0.2, 0.0)
#: models with a training curve
TRAINED = tuple(name for name, spec in trained_models().items() if spec.trained)


def _set(profiles: AnnData, options: EvaluationOptions, scaler: Any = None) -> tuple[Any, Any]:
    """Values (n, n_genes), standardised if there is a scaler, and labels (n,)."""
    from transcriptome_diffusion.expression.profiles import dense

    values = dense(profiles)
    return (scaler(values) if scaler else values), profiles.obs[options.label].astype(str).to_numpy()


def plot_profiles(
    train: AnnData, test: AnnData, reference: Any, options: EvaluationOptions, *profiles: AnnData
) -> tuple[Figure, ...]:
    """``OF_PROFILES``: maps of held-out and synthetic profiles, and their genes; of every generator the first run."""
    from transcriptome_diffusion.expression.profiles import split_runs
    from transcriptome_diffusion.reporting.profile_figures import profile_figures

    first = [part for whole in profiles for _, part in islice(split_runs(whole), 1)]
    synthetic = {name: part for name, part in zip(GENERATORS, first, strict=True) if part.n_obs}
    drawn = profile_figures(train, test, reference["landmarks"].scaler, synthetic, options.label, options.umap)
    return tuple(drawn[name] for name in OF_PROFILES)


def plot_trajectory(
    train: AnnData,
    test: AnnData,
    reference: Any,
    models: Any,
    options: EvaluationOptions,
    sampling: SamplingOptions,
    sampler: SamplerOptions,
) -> Figure:
    """From noise to profiles with the labels of held-out donors, by the denoiser of the first run."""
    import plotly.graph_objects as go

    from transcriptome_diffusion.reporting.maps import trajectory

    if not models.landmarks:
        return go.Figure(layout={"title": {"text": f"No trajectory: {models.landmarks.why}"}})
    scaler, model = reference["landmarks"].scaler, models.landmarks[0]
    states = model.trajectory(test.obs, sampling.seed, STATES, sampler)
    last = model.settings["schedule"]["timesteps"]
    shown = {f"t = {round(share * last)}": _set(state, options, scaler) for share, state in states.items()}
    return trajectory(_set(train, options, scaler)[0], shown)


def plot_scores(draws: DataFrame, by_tissue: DataFrame, by_gene: DataFrame) -> tuple[Figure, ...]:
    """``OF_SCORES``, from the tables alone."""
    from transcriptome_diffusion.reporting import figures
    from transcriptome_diffusion.reporting.scorecard import summarise

    scorecard = summarise(draws)
    genes = {str(name): part for name, part in by_gene.groupby("reconstructor", sort=False)}
    return (
        figures.precision_recall_plane(scorecard),
        figures.accuracies(draws),
        figures.tissue_maps(by_tissue),
        figures.module_bars(scorecard),
        figures.attack_intervals(scorecard),
        figures.attack_by_time(by_tissue),
        figures.reconstruction_by_gene(genes),
    )


def log_training(*models: Any) -> tuple[DataFrame, DataFrame, Figure]:
    """How ``TRAINED`` models were trained: a row per training, a row per validation, and the curves as a figure."""
    import pandas as pd

    from transcriptome_diffusion.reporting import training_log

    records = {}
    for name, model in zip(TRAINED, models, strict=True):
        records[name] = model.landmarks.records()
        if model.transcriptome.tried:
            records[f"direct_{name}"] = model.transcriptome.records()
    summary = pd.concat([training_log.summary(name, part) for name, part in records.items()], ignore_index=True)
    curves = pd.concat([training_log.curves(name, part) for name, part in records.items()], ignore_index=True)
    return summary, curves, training_log.overview(curves)


def write_report(
    draws: DataFrame,
    by_tissue: DataFrame,
    cohort_summary: DataFrame,
    reconstruction_quality: DataFrame,
    training_summary: DataFrame,
    training_curves: DataFrame,
    train: AnnData,
    parameters: dict[str, Any],
    **shown: Figure,
) -> str:
    """One self-contained HTML file; ``shown`` are figures under their names with ``figure_`` in front."""
    from transcriptome_diffusion.reporting.report import build_report
    from transcriptome_diffusion.reporting.scorecard import summarise

    scorecard = summarise(draws)
    held_out = cohort_summary[(cohort_summary["split"] == "test") & (cohort_summary["tissue"] == "all")]
    tables = {
        "scorecard": scorecard,
        "by_tissue": by_tissue,
        "cohort_summary": cohort_summary,
        "reconstruction_quality": reconstruction_quality,
        "training_summary": training_summary,
        "training_curves": training_curves,
    }
    facts = {
        "unit": train.uns["unit"],
        "training profiles": f"{train.n_obs} of {train.obs['donor'].nunique()} donors",
        "held-out profiles": f"{held_out['samples'].sum()} of {held_out['donors'].sum()} donors",
        "tissues": train.obs["tissue"].nunique(),
        "landmark genes": train.n_vars,
        "trainings per generator": int(scorecard["runs"].max()),
    }
    settings = {
        # Kedro hands over a model where a node of the run names one, with its defaults
        name: block.model_dump(mode="json") if hasattr(block, "model_dump") else block
        for name, block in parameters.items()
        if name not in BESIDE
    }
    figures = {name.removeprefix("figure_"): figure for name, figure in shown.items()}
    return build_report(tables, figures, facts, settings)
