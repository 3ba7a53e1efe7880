"""The base of every options model, and how a network is trained.

Options are closed: a misspelt key or an impossible value stops the run before it starts. Each block stands in
``conf/*/parameters_<pipeline>.yml``; the comments there say where a number comes from.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Options(BaseModel):
    """Closed and frozen: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: former names of fields, each with the name it has now; a subclass that renames a field fills it
    renamed: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def refuse_former_names(cls, data: Any) -> Any:
        """Refuse a former name of a field with an error that says the present one."""
        found = [name for name in data if name in cls.renamed] if isinstance(data, dict) else []
        if found:
            raise ValueError("; ".join(f"`{name}` is now called `{cls.renamed[name]}`" for name in found) + ".")
        return data


class TrainingOptions(Options):
    """How a network is optimised; the same block serves every trained generator."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    devices: int = Field(default=1, ge=1, description="GPUs, or processes on a CPU, that share every batch")
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = Field(default=None, ge=1, description="of torch on a CPU; null: one for a small network")
    batch_size: int = Field(default=256, ge=2)
    partial_batches: bool = Field(default=False, description="train on the last, smaller batch of an epoch as well")
    max_steps: int = Field(default=2000, ge=1)
    max_epochs: int | None = Field(default=None, ge=1, description="passes over the training rows; sets max_steps")
    optimizer: Literal["adamw", "adam", "rmsprop"] = "adamw"
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="of adamw and adam")
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    learning_rate_schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of the steps")
    peak_step: int | None = Field(
        default=None, ge=1, description="of one_cycle: steps up to the highest rate; null: 30 % of all"
    )
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float | None = Field(default=1.0, gt=0, description="largest norm; null for none")
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    ema_warmup: bool = Field(default=True, description="the first weights are forgotten sooner than ema_decay says")
    critic_batches: Literal["new", "same"] = Field(
        default="new",
        description="profiles of a critic's steps; same: all steps and that of the model are made on every batch",
    )
    validate_every: int = Field(default=100, ge=1, description="in steps")
    patience: int | None = Field(default=None, ge=1, description="validations without a gain; null: never stop")
    keep: Literal["best", "last"] = Field(default="best", description="which averaged weights are kept")

    @model_validator(mode="after")
    def _two_profiles_for_a_device(self) -> TrainingOptions:
        if isinstance(self.batch_size, int) and self.batch_size < 2 * self.devices:  # a subclass has `auto`
            raise ValueError(f"`batch_size` {self.batch_size} is too small for `devices` {self.devices}: two for each.")
        return self
