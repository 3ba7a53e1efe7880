"""Nodes of the evaluation: reference rows, one score per generator and space, scorecard, figures, report."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from typing import Any

from transcriptome_diffusion.generators.registry import GENERATOR_NAMES, RECONSTRUCTORS, TRAINED
from transcriptome_diffusion.parameters import EvaluationOptions, SamplingOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame, Figure

logger = logging.getLogger(__name__)


def draw_memoriser(
    landmarks: AnnData, expression: AnnData, sampling: SamplingOptions, options: EvaluationOptions
) -> tuple[AnnData, AnnData]:
    """The warning row: training profiles resampled, landmarks and transcriptome of the same donors."""
    from transcriptome_diffusion.generators.memoriser import memorise

    labels = landmarks.obs
    return (
        memorise(landmarks, labels, [options.label], sampling.seed),
        memorise(expression, labels, [options.label], sampling.seed),
    )


def prepare_oracle(oracle: AnnData, expression: AnnData, landmarks: AnnData) -> tuple[AnnData, AnnData]:
    """Fresh draws of a simulated population on the cohort's genes; without an oracle, no profiles at all."""
    from transcriptome_diffusion.expression.units import to_log2

    if not oracle.n_obs:
        return landmarks[:0].copy(), expression[:0].copy()
    fresh = to_log2(oracle)
    return fresh[:, landmarks.var_names].copy(), fresh[:, expression.var_names].copy()


def scoring(row: str, space: str, way: str) -> Callable[..., Any]:
    """The node that scores one row of the scorecard: a generator in one space, by one way to the transcriptome."""

    def score(
        train: AnnData, validation: AnnData, test: AnnData, options: EvaluationOptions, *candidates: AnnData
    ) -> DataFrame:
        """``candidates`` are the profiles, or two sets of them: against held-out donors, and against train."""
        import pandas as pd

        from transcriptome_diffusion.expression.profiles import dense, require_same_genes
        from transcriptome_diffusion.expression.scaling import GeneScaler
        from transcriptome_diffusion.generators.runs import split_runs
        from transcriptome_diffusion.metrics import indicators
        from transcriptome_diffusion.metrics.utility import Labelled
        from transcriptome_diffusion.reporting.scorecard import NO_WAY

        columns = ["generator", "reconstructor", "space", "reference", "metric", "run", "draw", "value", "n"]
        if not candidates[0].n_obs:
            logger.info("%s: no profiles, so no row in the %s scorecard", row, space)
            return pd.DataFrame(columns=columns)
        scaler = GeneScaler.fit(dense(train))
        special = options.transcriptome_classifier if space == "transcriptome" else None

        def labelled(profiles: AnnData) -> Labelled:
            require_same_genes(profiles, train.var_names, f"the {space} scorecard")
            return Labelled(scaler(dense(profiles)), profiles.obs[options.label].astype(str).to_numpy())

        real = [labelled(part) for part in (train, validation, test)]
        tables = []
        for runs in zip(*map(split_runs, candidates), strict=True):
            run, scored = runs[0][0], [labelled(profiles) for _, profiles in runs]
            table = indicators.score(
                scored[0],
                scored[-1],
                *real,
                neighbours=getattr(options.neighbours, space),
                draws=options.draws,
                seed=options.seed,
                classifier=special or options.classifier,
            )
            tables.append(table.assign(generator=row, reconstructor=way or NO_WAY, space=space, run=run)[columns])
        return pd.concat(tables, ignore_index=True)

    return score


def collect_scorecard(*indicators: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Means, spreads and sizes of all rows, and every single value; two tables of the first go to the log."""
    import pandas as pd

    from transcriptome_diffusion.reporting import scorecard

    single = pd.concat([part for part in indicators if len(part)], ignore_index=True)
    table = scorecard.collect([single])
    for space in table["space"].unique():
        logger.info("scorecard, %s", scorecard.as_text(table, space))
    return table, single


def score_reconstruction(
    landmarks_test: AnnData, expression_test: AnnData, *reconstructors: Any
) -> tuple[DataFrame, DataFrame, Figure]:
    """How well targets of held-out donors are rebuilt from their real landmarks: in a dozen numbers, and by gene."""
    import pandas as pd

    from transcriptome_diffusion.expression.profiles import dense
    from transcriptome_diffusion.metrics.regression import by_gene, summarise
    from transcriptome_diffusion.reporting.figures import reconstruction_by_gene

    targets = ~expression_test.var_names.isin(landmarks_test.var_names)
    real, genes = dense(expression_test)[:, targets], expression_test.var[targets]
    tables = {
        name: by_gene(real, dense(model.reconstruct(landmarks_test))[:, targets], model.outputs, genes)
        for name, model in zip(RECONSTRUCTORS, reconstructors, strict=True)
    }
    summary = [{"reconstructor": name, "n": len(real), **summarise(table)} for name, table in tables.items()]
    by_name = [table.assign(gene=table.index, reconstructor=name) for name, table in tables.items()]
    return pd.DataFrame(summary), pd.concat(by_name, ignore_index=True), reconstruction_by_gene(tables)


def plot_pca(train: AnnData, test: AnnData, *profiles: AnnData) -> Any:
    """Held-out and synthetic profiles (of the first run) in the principal components of the training donors."""
    from transcriptome_diffusion.expression.profiles import dense
    from transcriptome_diffusion.expression.scaling import GeneScaler
    from transcriptome_diffusion.generators.runs import split_runs
    from transcriptome_diffusion.reporting.figures import pca_comparison

    scaler = GeneScaler.fit(dense(train))
    parts = {
        name: (scaler(dense(part)), part.obs["tissue"].astype(str).to_numpy())
        for name, whole in zip(("test", *GENERATOR_NAMES), (test, *profiles), strict=True)
        for _, part in islice(split_runs(whole), 1)
    }
    return pca_comparison(scaler(dense(train)), *parts.pop("test"), parts)


def plot_precision_recall(scorecard: DataFrame) -> Any:
    """Precision against recall of every row, landmarks, held-out donors."""
    from transcriptome_diffusion.reporting.figures import precision_recall_plane

    return precision_recall_plane(scorecard)


def write_report(
    scorecard: DataFrame,
    cohort: DataFrame,
    reconstruction: DataFrame,
    pca: Any,
    precision_recall: Any,
    by_gene: Any,
    train: AnnData,
    *trainings: Any,
) -> str:
    """One self-contained HTML file; ``trainings`` are a summary and a figure for every trained generator."""
    import pandas as pd

    from transcriptome_diffusion.reporting.report import build_report

    summaries, curves = trainings[: len(TRAINED)], trainings[len(TRAINED) :]
    return build_report(
        scorecard,
        cohort,
        reconstruction,
        pd.concat(summaries, ignore_index=True),
        {
            "Principal components": pca,
            "Precision and recall": precision_recall,
            "Which genes the landmarks tell": by_gene,
        },
        curves,
        {
            "unit": train.uns["unit"],
            "training profiles": train.n_obs,
            "training donors": train.obs["donor"].nunique(),
            "landmark genes": train.n_vars,
        },
    )
