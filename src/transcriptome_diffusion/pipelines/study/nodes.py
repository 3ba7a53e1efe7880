"""Nodes of the study: samplers by number of steps, the paper's tables, two figures, one report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transcriptome_diffusion.experiments.options import StudyOptions
from transcriptome_diffusion.expression.options import SplitOptions
from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame, Figure

#: in the order of the report; ``reporting.study`` says what is in them
MADE = ("landmarks", "transcriptome", "reconstruction", "reverse_validation", "samplers", "cost")
#: those of the report; the last one comes from the paper's protocol
TABLES = (*MADE, "paper_protocol")
#: what the published values are of
PUBLISHED_OF = {
    "gtex": "GTEx v8: 26 tissues, 12,244 training and 5,000 test profiles",
    "tcga": "TCGA: 24 tissues, 8,124 training and 1,625 test profiles",
}
#: stands above them
NOT_THE_SAME = (
    "The published values are of {}, split at random over samples, and of networks of full size. They compare with a "
    "run on the same profiles and that split: a split over donors is harder, and indicators depend on sizes."
)


def compare_steps(
    models: Any,
    train: AnnData,
    reference: Any,
    sampler: SamplerOptions,
    sampling: SamplingOptions,
    evaluation: EvaluationOptions,
    options: StudyOptions,
) -> DataFrame:
    """Every training of the denoiser by one sampler with several numbers of steps: indicators and seconds."""
    from transcriptome_diffusion.experiments import study

    return study.compare_steps(
        models.landmarks, sampler, options.steps, train, reference["landmarks"], sampling, evaluation
    )


def tabulate(
    options: StudyOptions,
    scorecard: DataFrame,
    draws: DataFrame,
    reconstruction: DataFrame,
    training: DataFrame,
    *samplers: DataFrame,
) -> tuple[DataFrame, ...]:
    """``MADE``; ``samplers`` are the single values of every sampler by its number of steps."""
    from transcriptome_diffusion.reporting import study

    tables = (
        study.landmarks(scorecard),
        study.transcriptome(scorecard),
        study.reconstruction(reconstruction),
        study.reverse_validation(draws),
        study.samplers(samplers, scorecard),
        study.cost(training),
    )
    return tuple(study.beside(name, table, options.published) for name, table in zip(MADE, tables, strict=True))


def plot(samplers: DataFrame, cost: DataFrame) -> tuple[Figure, Figure]:
    """What more sampling steps buy, and what trainings cost."""
    from transcriptome_diffusion.reporting import study

    return study.steps_figure(samplers), study.cost_figure(cost)


class WriteReport:
    """Writes the report; ``places`` are the tables below which figures of the evaluation stand."""

    def __init__(self, places: Sequence[str]) -> None:
        self.places = tuple(places)
        self.__name__ = "write_report"
        self.__annotations__ = {"options": StudyOptions, "split": SplitOptions}

    def __call__(self, options: Any, split: Any, cohort: DataFrame, *parts: Any) -> str:
        """``parts`` are the tables, the two figures of the study, and those of the evaluation."""
        from transcriptome_diffusion.reporting import study

        tables = dict(zip(TABLES, parts[: len(TABLES)], strict=True))
        figures: dict[str, list[Any]] = {}
        for place, figure in zip(("samplers", "cost", *self.places), parts[len(TABLES) :], strict=True):
            figures.setdefault(place, []).append(figure)
        sums = cohort["tissue"] == "all"
        facts = {
            "trainings per generator": options.runs,
            "tissues": cohort.loc[~sums, "tissue"].nunique(),
            **{f"{part.split} profiles": part.samples for part in cohort[sums].itertuples()},
            "split over": "donors" if split.strategy == "donor" else "samples",
        }
        note = "" if options.published is None else NOT_THE_SAME.format(PUBLISHED_OF[options.published])
        return study.build_report(tables, figures, facts, note)
