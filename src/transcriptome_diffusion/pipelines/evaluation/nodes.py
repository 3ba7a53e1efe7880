"""Nodes of the evaluation: the real side once, one score per generator, one scorecard."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from transcriptome_diffusion.generators.options import SamplingOptions
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame

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
    """Fresh draws of a simulated population on the cohort's genes; without an oracle, no profiles at all.

    The oracle of conf/base counts as none beside a cohort that is not simulated.
    """
    from transcriptome_diffusion.expression.units import to_log2

    drawn, real = (set(part.obs.get("source", [])) for part in (oracle, expression))
    if drawn == {"simulated_oracle"} and real != {"simulated"}:
        logger.info("`evaluation.oracle_cohort` is of a simulated population and this cohort is not: no row `oracle`")
        oracle = oracle[:0]
    if not oracle.n_obs:
        return landmarks[:0].copy(), expression[:0].copy()
    fresh = to_log2(oracle)
    return fresh[:, landmarks.var_names].copy(), fresh[:, expression.var_names].copy()


def fit_reference(
    landmarks_train: AnnData,
    landmarks_validation: AnnData,
    landmarks_test: AnnData,
    expression_train: AnnData,
    expression_validation: AnnData,
    expression_test: AnnData,
    gene_sets: dict[str, tuple[str, ...]],
    options: EvaluationOptions,
) -> Any:
    """Everything about the real side that scores need, computed once: scale, axes, classifier, modules, distances."""
    from transcriptome_diffusion.metrics.reference import EvaluationReference

    landmarks = {"train": landmarks_train, "validation": landmarks_validation, "test": landmarks_test}
    expression = {"train": expression_train, "validation": expression_validation, "test": expression_test}
    return EvaluationReference.fit(landmarks, expression, gene_sets, options)


def score_real(reference: Any, options: EvaluationOptions) -> DataFrame:
    """The ceiling: real training donors scored as if they were synthetic."""
    from transcriptome_diffusion.metrics import scores

    return scores.score_real(reference, options)


class Score:
    """Scores one row of the scorecard in both spaces: fidelity, utility, biology, copying, privacy."""

    def __init__(self, row: str) -> None:
        self.row = row
        self.__name__ = f"score_{row}"
        self.__annotations__ = {"options": EvaluationOptions}

    def __call__(
        self,
        profiles: AnnData,
        transcriptomes: Any,
        reference: Any,
        options: Any,
        models: Any = None,
        train: AnnData = None,
        test: AnnData = None,
    ) -> DataFrame:
        """One long table, ``metrics.scores.SCORE_COLUMNS``.

        Args:
            transcriptomes: by reconstructor, functions that load profiles; or the profiles of a reference row.
            models: trainings whose loss an attack may read, with the landmark profiles ``train`` and ``test``.
        """
        import pandas as pd

        from transcriptome_diffusion.metrics import scores
        from transcriptome_diffusion.metrics.registry import NO_RECONSTRUCTOR

        if not isinstance(transcriptomes, dict):
            whole = transcriptomes
            transcriptomes = {NO_RECONSTRUCTOR: lambda: whole}
        if not profiles.n_obs and (why := profiles.uns.get("generator", {}).get("note")):
            return scores.without_profiles(self.row, why)
        table = scores.score_generator(self.row, profiles, transcriptomes, reference, options)
        if models is None:
            return table
        from transcriptome_diffusion.generators.diffusion.model import LOSS_TIMES

        attacks = scores.score_white_box(self.row, models.landmarks, train, test, options, LOSS_TIMES)
        return pd.concat([table, attacks], ignore_index=True)


def collect(*tables: DataFrame) -> tuple[DataFrame, DataFrame]:
    """All rows: single values over all tissues, and those of single tissues."""
    from transcriptome_diffusion.reporting.scorecard import collect

    return collect(tables)


def summarise(draws: DataFrame) -> DataFrame:
    """The scorecard: mean, spread and bounds of the single values."""
    from transcriptome_diffusion.reporting.scorecard import summarise

    return summarise(draws)


def score_reconstruction(
    landmarks_test: AnnData, expression_test: AnnData, reconstructors: dict[str, Callable[[], Any]]
) -> tuple[DataFrame, DataFrame]:
    """How well targets of held-out donors are rebuilt from their real landmarks: in a dozen numbers, and by gene."""
    import pandas as pd

    from transcriptome_diffusion.expression.profiles import dense
    from transcriptome_diffusion.metrics.regression import by_gene, summarise

    targets = ~expression_test.var_names.isin(landmarks_test.var_names)
    real, genes = dense(expression_test)[:, targets], expression_test.var[targets]
    tables = {}
    for name, load in reconstructors.items():
        model = load()
        tables[name] = by_gene(real, dense(model.reconstruct(landmarks_test))[:, targets], model.outputs, genes)
    summary = [{"reconstructor": name, "n": len(real), **summarise(table)} for name, table in tables.items()]
    by_name = [table.assign(gene=table.index, reconstructor=name) for name, table in tables.items()]
    return pd.DataFrame(summary), pd.concat(by_name, ignore_index=True)
