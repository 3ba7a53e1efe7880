"""Nodes of the paper's protocol: one table per generator, and all of them together."""

from __future__ import annotations

from typing import Any

from transcriptome_diffusion.experiments.options import StudyOptions
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
        import pandas as pd

        from transcriptome_diffusion.experiments.paper_protocol import COLUMNS, paper_protocol

        if not models.landmarks:
            return pd.DataFrame(columns=COLUMNS)
        model = models.landmarks[0]
        return paper_protocol(self.generator, model, train, validation, test, options, sampling, sampler)


def collect(options: StudyOptions, *tables: DataFrame) -> DataFrame:
    """The tables of all generators below each other, the paper's values beside them where the cohort is the paper's."""
    import pandas as pd

    from transcriptome_diffusion.reporting.study import published

    table = pd.concat(tables, ignore_index=True)
    if options.published is None:
        return table
    known = published()
    known = known[(known["cohort"] == options.published) & known["table"].isin(["landmarks", "reverse_validation"])]
    known = known[(known["space"] == "landmarks") & known["reference"].isin(table["reference"])]
    # the medians of its classifiers stand for their mean
    known = known.assign(metric=known["metric"].replace("accuracy_mlp", "accuracy"))
    keys = ["generator", "reference", "metric"]
    return table.merge(known[[*keys, "value"]].rename(columns={"value": "published"}), "left", keys, validate="m:1")
