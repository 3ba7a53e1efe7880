"""Nodes of the paper's protocol: its reconstructions, one table per generator, and all of them together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from transcriptome_diffusion.experiments.options import StudyOptions
from transcriptome_diffusion.generators.options import SamplingOptions
from transcriptome_diffusion.metrics.options import PaperProtocolOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame
from transcriptome_diffusion.reconstruction.options import MLPOptions, OLSOptions

logger = logging.getLogger(__name__)


def fit_reconstructors(
    landmarks: AnnData,
    expression: AnnData,
    other_landmarks: AnnData,
    other_expression: AnnData,
    ols: OLSOptions,
    mlp: MLPOptions,
    options: PaperProtocolOptions,
) -> dict[str, Callable[[], Any]]:
    """The paper's two reconstructions in linear values; none where all genes are not asked for."""
    from transcriptome_diffusion.experiments import paper_protocol

    if options.transcriptome is None or not has_linear_values(landmarks):
        return {}
    return paper_protocol.fit_reconstructors(
        (landmarks, other_landmarks), (expression, other_expression), {"ols": ols, "mlp": mlp}, options
    )


def score_real(
    landmarks: AnnData,
    landmarks_validation: AnnData,
    landmarks_test: AnnData,
    expression: AnnData,
    expression_validation: AnnData,
    expression_test: AnnData,
    reconstructors: dict[str, Callable[[], Any]],
    options: PaperProtocolOptions,
) -> DataFrame:
    """The ceiling: real profiles of the test part."""
    from transcriptome_diffusion.experiments.paper_protocol import RealProfiles, Transcriptomes, real_rows

    if not has_linear_values(landmarks):
        return no_rows()
    real = RealProfiles.of(landmarks, landmarks_validation, landmarks_test, options.label)
    if options.transcriptome is None:
        return real_rows(real, options)
    whole = RealProfiles.of(expression, expression_validation, expression_test, options.label)
    return real_rows(real, options, Transcriptomes(whole, reconstructors))


def has_linear_values(profiles: AnnData) -> bool:
    """Whether the unit is a log2(x + 1); on other scales the protocol has no rows, and says why."""
    from transcriptome_diffusion.expression.units import linear_unit

    unit = str(profiles.uns["unit"])
    if linear_unit(unit) is None:
        logger.warning("The paper's protocol has no rows: it needs linear values, and the profiles are in %r.", unit)
        return False
    return True


def no_rows() -> DataFrame:
    """The table of a cohort without linear values."""
    import pandas as pd

    from transcriptome_diffusion.experiments.paper_protocol import COLUMNS

    return pd.DataFrame(columns=COLUMNS)


class Score:
    """Scores the first training of one generator; a class, so that runners can send it to other processes."""

    def __init__(self, generator: str, sampler: type | None) -> None:
        self.generator = generator
        self.__name__ = f"score_{generator}"
        self.__annotations__ = {"options": PaperProtocolOptions, "sampling": SamplingOptions}
        if sampler is not None:
            self.__annotations__["sampler"] = sampler

    def __call__(
        self,
        models: Any,
        train: AnnData,
        validation: AnnData,
        test: AnnData,
        options: Any,
        sampling: Any,
        sampler: Any = None,
        whole_train: AnnData = None,
        whole_validation: AnnData = None,
        whole_test: AnnData = None,
        reconstructors: Any = None,
    ) -> DataFrame:
        """Its table; on all genes as well where the options ask for them and the paper has this generator there."""
        from transcriptome_diffusion.experiments.paper_protocol import RealProfiles, Transcriptomes, paper_protocol

        if not models.landmarks or not has_linear_values(train):
            return no_rows()
        real = RealProfiles.of(train, validation, test, options.label)
        transcriptomes = None
        if reconstructors is not None and options.transcriptome is not None:
            whole = RealProfiles.of(whole_train, whole_validation, whole_test, options.label)
            direct = models.transcriptome[0] if len(models.transcriptome) else None
            transcriptomes = Transcriptomes(whole, reconstructors, direct)
        model = models.landmarks[0]
        return paper_protocol(self.generator, model, real, options, sampling, sampler, transcriptomes)


def collect(options: StudyOptions, *tables: DataFrame) -> DataFrame:
    """The tables of all generators below each other, the paper's values beside them where they are asked for."""
    import pandas as pd

    from transcriptome_diffusion.reporting.study import beside

    return beside("paper_protocol", pd.concat(tables, ignore_index=True), options.published)
