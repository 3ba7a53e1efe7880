"""Options of the reconstructors."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from transcriptome_diffusion.options import Options, TrainingOptions


class ResidualOptions(Options):
    """The residual noise that a reconstruction can add."""

    renamed: ClassVar[dict[str, str]] = {"profiles_per_label": "profiles"}

    shrinkage: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="of correlations of residuals between blocks of genes, as a share of Ledoit and Wolf's",
    )
    profiles: int = Field(
        default=2000, ge=3, description="at most, of training and of validation, that residuals are drawn from"
    )


class ReconstructorOptions(Options):
    """What every reconstructor takes."""

    residuals: ResidualOptions = ResidualOptions()

    @model_validator(mode="before")
    @classmethod
    def _method_is_the_name_of_the_block(cls, values: Any) -> Any:
        if isinstance(values, dict) and "method" in values:
            raise ValueError(
                f"`method: {values['method']}` is no option of a reconstructor; the name of the block says which one "
                "it is: `reconstruction_ridge`, `reconstruction_ols` or `reconstruction_mlp`."
            )
        return values


class OLSOptions(ReconstructorOptions):
    """Plain least squares, which has nothing to choose."""


class RidgeOptions(ReconstructorOptions):
    """Ridge regression; exact leave-one-out errors choose the penalty."""

    penalties: list[float] = Field(
        default=[10 ** (e / 4) for e in range(-16, 9)],
        min_length=1,
        description="candidates, in units of the mean eigenvalue of the landmarks' scatter matrix",
    )
    penalty_per: Literal["all", "target"] = Field(
        default="all", description="one penalty for all targets, or one for each; costs a pass per penalty"
    )

    @field_validator("penalties")
    @classmethod
    def _penalties_are_positive(cls, penalties: list[float]) -> list[float]:
        if min(penalties) <= 0:
            raise ValueError("penalties must be positive; least squares without a penalty is `reconstruction_ols`.")
        return penalties


class MLPOptions(ReconstructorOptions):
    """A multilayer perceptron, the shape of D-GEX (Chen et al. 2016)."""

    hidden: list[PositiveInt] = Field(default=[1024], min_length=1, description="widths of the layers")
    dropout: float = Field(default=0.3, ge=0, lt=1, description="after every hidden layer")
    batch_norm: bool = True
    seed: int = Field(default=0, ge=0)
    training: TrainingOptions = TrainingOptions(
        batch_size=64, max_steps=600, validate_every=20, patience=10, ema_decay=0.98
    )
