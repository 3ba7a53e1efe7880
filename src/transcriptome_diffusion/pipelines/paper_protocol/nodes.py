"""Nodes of the paper's protocol: one table per generator, and all of them together."""

from __future__ import annotations

from typing import Any

from transcriptome_diffusion.generators.options import SamplingOptions
from transcriptome_diffusion.metrics.options import PaperProtocolOptions
from transcriptome_diffusion.pipelines.shared import AnnData, DataFrame


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
    ) -> DataFrame:
        from transcriptome_diffusion.experiments.paper_protocol import paper_protocol

        model = models.landmarks[0]
        return paper_protocol(self.generator, model, train, validation, test, options, sampling, sampler)


def collect(*tables: DataFrame) -> DataFrame:
    """The tables of all generators below each other."""
    import pandas as pd

    return pd.concat(tables, ignore_index=True)
