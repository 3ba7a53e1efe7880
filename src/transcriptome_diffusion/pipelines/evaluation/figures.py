"""Figures of the evaluation and the report, from profiles, the trained denoiser and the tables."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from kedro.pipeline import Node

from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.registry import GENERATOR_NAMES, TRAINED
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame, Figure

#: figures of the report, in no particular order; each is the dataset ``figure_<name>``
FIGURES = (
    *("pca_landmarks", "umap_landmarks", "trajectory", "precision_recall", "accuracies", "by_tissue"),
    *("correlations", "marginals", "fold_changes", "modules", "privacy", "privacy_by_time", "reconstruction_by_gene"),
)
#: blocks of parameters that say nothing about what the report shows
BESIDE = ("augmentation", "download", "study", "tuning")
#: shares of the way to noise at which the sampler is looked at, those of the paper's figure 2
STATES = (1.0, 0.6, 0.2, 0.0)


def figure_nodes() -> list[Node]:
    """One node per figure, and the report."""
    real, profiles = ["landmarks_train", "landmarks_test"], [f"profiles_{name}" for name in GENERATOR_NAMES]
    compared = [*real, "params:evaluation", *profiles]
    placed = [*real, "yardsticks_landmarks", "params:evaluation", *profiles]
    inputs: dict[Callable[..., Any], tuple[str, list[str]]] = {
        placing("pca"): ("pca_landmarks", placed),
        placing("umap"): ("umap_landmarks", placed),
        plot_trajectory: (
            "trajectory",
            [*real, "yardsticks_landmarks", "denoiser", "params:evaluation", "params:sampling", "params:ddpm"],
        ),
        plot_precision_recall: ("precision_recall", ["scorecard"]),
        plot_accuracies: ("accuracies", ["scorecard_draws"]),
        plot_by_tissue: ("by_tissue", ["scorecard_by_tissue"]),
        plot_correlations: ("correlations", compared),
        plot_marginals: ("marginals", compared),
        plot_fold_changes: ("fold_changes", compared),
        plot_modules: ("modules", ["scorecard"]),
        plot_privacy: ("privacy", ["privacy"]),
        plot_privacy_by_time: ("privacy_by_time", ["privacy_by_time"]),
    }
    report = Node(
        write_report,
        [
            *("scorecard", "privacy", "cohort_summary", "reconstruction_quality", "landmarks_train", "parameters"),
            *(f"figure_{name}" for name in FIGURES),
            *(f"training_summary_{name}" for name in TRAINED),
            *(f"figure_training_{name}" for name in TRAINED),
        ],
        "report",
        name="write_report",
    )
    plots = [Node(plot, read, f"figure_{name}", name=plot.__name__) for plot, (name, read) in inputs.items()]
    return [*plots, report]


def _sets(options: EvaluationOptions, profiles: tuple[AnnData, ...], scaler: Any = None) -> dict[str, Any]:
    """Values and labels of every generator's first run."""
    from transcriptome_diffusion.expression.profiles import split_runs

    first = [part for whole in profiles for _, part in islice(split_runs(whole), 1)]
    return {name: _set(part, options, scaler) for name, part in zip(GENERATOR_NAMES, first, strict=True)}


def _set(profiles: AnnData, options: EvaluationOptions, scaler: Any = None) -> tuple[Any, Any]:
    from transcriptome_diffusion.expression.profiles import dense

    values = dense(profiles)
    return (scaler(values) if scaler else values), profiles.obs[options.label].astype(str).to_numpy()


def placing(kind: str) -> Callable[..., Any]:
    """The node that shows profiles as points, in the principal components (``pca``) or on a ``umap`` of real donors."""

    def plot(train: AnnData, test: AnnData, yardsticks: Any, options: EvaluationOptions, *profiles: AnnData) -> Figure:
        """Held-out profiles, and those of every generator's first run."""
        from transcriptome_diffusion.reporting import maps

        compare, scaler = getattr(maps, f"{kind}_comparison"), yardsticks.scaler
        ours, (held_out, labels) = (_set(part, options, scaler) for part in (train, test))
        return compare(ours[0], held_out, labels, _sets(options, profiles, scaler))

    plot.__name__ = f"plot_{kind}"
    return plot


def plot_trajectory(
    train: AnnData,
    test: AnnData,
    yardsticks: Any,
    models: Any,
    options: EvaluationOptions,
    sampling: SamplingOptions,
    sampler: SamplerOptions,
) -> Figure:
    """The way from noise to profiles with the labels of held-out donors, by the denoiser of the first run."""
    from transcriptome_diffusion.reporting.maps import trajectory

    scaler, labels = yardsticks.scaler, test.obs
    states = models[0].trajectory(labels, sampling.seed, STATES, sampler)
    last = models[0].settings["schedule"]["timesteps"]
    shown = {f"t = {round(share * last)}": _set(state, options, scaler) for share, state in states.items()}
    return trajectory(_set(train, options, scaler)[0], shown)


def plot_precision_recall(scorecard: DataFrame) -> Figure:
    """Precision against recall of every row, landmarks, held-out donors."""
    from transcriptome_diffusion.reporting.figures import precision_recall_plane

    return precision_recall_plane(scorecard)


def plot_accuracies(draws: DataFrame) -> Figure:
    """Accuracies of reverse validation, every classifier a dot."""
    from transcriptome_diffusion.reporting.figures import accuracies

    return accuracies(draws)


def plot_by_tissue(table: DataFrame) -> Figure:
    """Indicators of single tissues as a heat map."""
    from transcriptome_diffusion.reporting.figures import tissue_maps

    return tissue_maps(table)


def plot_correlations(train: AnnData, test: AnnData, options: EvaluationOptions, *profiles: AnnData) -> Figure:
    """Correlations within tissues, of real donors and of every generator."""
    from transcriptome_diffusion.reporting.genes import correlation_maps

    panels = {"held-out donors": _set(test, options), **_sets(options, profiles)}
    return correlation_maps(_set(train, options), panels, train.var["symbol"].tolist())


def plot_marginals(train: AnnData, test: AnnData, options: EvaluationOptions, *profiles: AnnData) -> Figure:
    """The best and the worst genes of every generator."""
    from transcriptome_diffusion.reporting.genes import marginal_densities

    synthetic = {name: values for name, (values, _) in _sets(options, profiles).items()}
    ours, theirs = (_set(part, options)[0] for part in (train, test))
    return marginal_densities(ours, theirs, synthetic, train.var["symbol"].tolist(), str(train.uns["unit"]))


def plot_fold_changes(train: AnnData, test: AnnData, options: EvaluationOptions, *profiles: AnnData) -> Figure:
    """Differences between one tissue and the others, against those of held-out donors."""
    from transcriptome_diffusion.reporting.genes import fold_changes

    panels = {"real": _set(train, options), **_sets(options, profiles)}
    return fold_changes(_set(test, options), panels, train.var["symbol"].tolist())


def plot_modules(scorecard: DataFrame) -> Figure:
    """Whether modules of genes hold together."""
    from transcriptome_diffusion.reporting.figures import module_bars

    return module_bars(scorecard)


def plot_privacy(privacy: DataFrame) -> Figure:
    """Membership attacks with their intervals."""
    from transcriptome_diffusion.reporting.figures import attack_intervals

    return attack_intervals(privacy)


def plot_privacy_by_time(table: DataFrame) -> Figure:
    """The attack on the loss at single times."""
    from transcriptome_diffusion.reporting.figures import attack_by_time

    return attack_by_time(table)


def write_report(
    scorecard: DataFrame,
    privacy: DataFrame,
    cohort: DataFrame,
    reconstruction: DataFrame,
    train: AnnData,
    parameters: dict[str, Any],
    *shown: Any,
) -> str:
    """One self-contained HTML file; ``shown`` are ``FIGURES``, then a summary and a figure per trained generator."""
    import pandas as pd

    from transcriptome_diffusion.reporting.report import build_report

    figures, trainings = dict(zip(FIGURES, shown, strict=False)), shown[len(FIGURES) :]
    summaries, curves = trainings[: len(TRAINED)], trainings[len(TRAINED) :]
    held_out = cohort[(cohort["split"] == "test") & (cohort["tissue"] == "all")]
    return build_report(
        scorecard,
        privacy,
        cohort,
        reconstruction,
        pd.concat(summaries, ignore_index=True),
        figures,
        curves,
        {
            "unit": train.uns["unit"],
            "training profiles": f"{train.n_obs} of {train.obs['donor'].nunique()} donors",
            "held-out profiles": f"{held_out['samples'].sum()} of {held_out['donors'].sum()} donors",
            "tissues": train.obs["tissue"].nunique(),
            "landmark genes": train.n_vars,
            "trainings per generator": int(scorecard["runs"].max()),
        },
        {
            # Kedro hands over a model where a node of the run names one, with its defaults
            name: block.model_dump(mode="json") if hasattr(block, "model_dump") else block
            for name, block in parameters.items()
            if name not in BESIDE
        },
    )
