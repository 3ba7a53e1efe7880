"""Options of ingestion, split and landmark panel."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator

from transcriptome_diffusion.options import Options

#: how a source names its genes
GeneIds = Literal["ensembl", "entrez", "symbol", "symbol|entrez"]
#: what becomes of values below those of an unexpressed gene
Negative = Literal["refuse", "zero", "keep"]


class IngestionOptions(Options):
    """How samples get their class label, and which tissues and genes are kept."""

    label: str = Field(default="tissue", description="column of the cohort's sample table that is the class label")
    tissues: dict[str, str] | None = Field(
        default=None, description="values of that column to tissue names; null keeps the values"
    )
    aliases: dict[str, str] = Field(default={}, description="other names of one class: from them to the one that stays")
    min_samples_per_tissue: int = Field(default=20, ge=1)
    min_expressed_share: float = Field(
        default=0.0, ge=0, le=1, description="share of training samples above zero that a gene needs"
    )
    missing: Literal["refuse", "drop", "impute", "zero"] = Field(
        default="refuse",
        description="missing values: an error, drop the gene, fill by the training samples' median, or 0 (the paper's)",
    )
    unit_check: Literal["refuse", "warn"] = Field(
        default="refuse", description="what becomes of values that contradict the declared unit"
    )
    normalise: Literal["cpm", "tmm", "size_factors", "tpm"] = Field(
        default="cpm", description="how a cohort of read counts is normalised; others are left as they are"
    )


class SplitSizes(Options):
    """Samples of each part."""

    train: PositiveInt
    validation: PositiveInt
    test: PositiveInt
    surplus: Literal["refuse", "leave_out"] = Field(
        default="refuse", description="what becomes of a cohort with more samples; those left out are drawn at random"
    )

    @property
    def total(self) -> int:
        """Samples in all three."""
        return self.train + self.validation + self.test


class SplitOptions(Options):
    """Folds of donors (or of samples, as in the paper); the folds left over are the training part."""

    strategy: Literal["donor", "random"] = "donor"
    n_folds: int = Field(default=10, ge=3)
    test_folds: int = Field(default=2, ge=1)
    validation_folds: int = Field(default=1, ge=1)
    sizes: SplitSizes | None = Field(default=None, description="instead of folds, where samples are split at random")
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _sizes_are_of_samples(self) -> Self:
        if self.sizes is not None and self.strategy == "donor":
            raise ValueError(
                "`sizes` counts samples, and donors bring several: set strategy to random, or sizes to null."
            )
        return self

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> Self:
        if self.test_folds + self.validation_folds >= self.n_folds:
            raise ValueError(
                f"test_folds={self.test_folds} and validation_folds={self.validation_folds} leave nothing of "
                f"n_folds={self.n_folds} to train on."
            )
        return self


class LandmarkOptions(Options):
    """How much of the landmark panel has to be measured."""

    min_coverage: float = Field(default=0.9, gt=0, le=1)
