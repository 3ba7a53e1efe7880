"""Options of the reconstructors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, field_validator

from transcriptome_diffusion.options import Options, TrainingOptions


class ResidualOptions(Options):
    """The residual noise of a reconstruction."""

    label: str = Field(default="tissue", description="column whose categories have a scatter of their own")
    pooling: float = Field(
        default=60.0, ge=0, description="profiles at which a label's own scatter weighs as much as that of all"
    )
    profiles_per_label: int = Field(
        default=100, ge=2, description="at most, of training and of validation profiles; more cost memory"
    )


class ReconstructionOptions(Options):
    """Linear reconstruction of the transcriptome from its landmarks."""

    method: Literal["ridge", "ols"] = Field(
        default="ridge", description="plain least squares interpolates with fewer samples than landmarks"
    )
    penalties: list[float] = Field(
        default=[10 ** (e / 4) for e in range(-16, 9)],
        min_length=1,
        description="candidates, in units of the landmarks' mean eigenvalue; leave-one-out decides",
    )
    penalty_per: Literal["all", "target"] = Field(
        default="all", description="one penalty for all targets, or one for each; costs a pass per penalty"
    )
    residuals: ResidualOptions = ResidualOptions()

    @field_validator("penalties")
    @classmethod
    def _penalties_are_positive(cls, penalties: list[float]) -> list[float]:
        if min(penalties) <= 0:
            raise ValueError('penalties must be positive; for none at all set method to "ols".')
        return penalties


class MLPReconstructionOptions(Options):
    """Reconstruction by a multilayer perceptron, the shape of D-GEX (Chen et al. 2016)."""

    hidden: list[PositiveInt] = Field(default=[1024], min_length=1, description="widths of the layers")
    dropout: float = Field(default=0.3, ge=0, lt=1, description="after every hidden layer")
    batch_norm: bool = True
    seed: int = Field(default=0, ge=0)
    residuals: ResidualOptions = ResidualOptions()
    training: TrainingOptions = TrainingOptions(
        batch_size=64, max_steps=600, validate_every=20, patience=10, ema_decay=0.98
    )
