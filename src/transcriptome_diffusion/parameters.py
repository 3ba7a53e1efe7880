"""Closed models of every parameter block: a misspelt key or an impossible value stops the run before it starts.

Each block stands in ``conf/*/parameters_<pipeline>.yml``; the comments there say where a number comes from.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, field_validator, model_validator


class Options(BaseModel):
    """Closed and frozen: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GeneratorOptions(Options):
    """What every generator takes."""

    conditions: list[str] = Field(default=["tissue"], min_length=1)
    seed: int = Field(default=0, ge=0)


class ClassGaussianOptions(GeneratorOptions):
    """Class-conditional Gaussian; the shrinkage is Ledoit and Wolf's, chosen from the data."""

    min_samples: int = Field(default=10, ge=2, description="smaller classes share one pooled covariance")


class ClassKDEOptions(ClassGaussianOptions):
    """Class-conditional kernel density; the bandwidth is chosen by validation likelihood."""

    bandwidths: list[PositiveFloat] = Field(
        default=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6, 2.0, 3.0],
        min_length=1,
        description="in within-class standard deviations",
    )


class TrainingOptions(Options):
    """How a network is optimised; the same block serves every trained generator."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int | None = Field(default=None, ge=1, description="of torch on a CPU; null leaves them alone")
    batch_size: int = Field(default=256, ge=2)
    max_steps: int = Field(default=2000, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    learning_rate_schedule: Literal["constant", "cosine", "one_cycle"] = "cosine"
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(default=0.01, ge=0)
    gradient_clip: float | None = Field(default=1.0, gt=0, description="largest norm; null for none")
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    validate_every: int = Field(default=100, ge=1, description="in steps")
    patience: int | None = Field(default=None, ge=1, description="validations without a gain; null: never stop")
    keep: Literal["best", "last"] = Field(default="best", description="which averaged weights are kept")


class ScheduleOptions(Options):
    """The noise schedule; the betas bound the linear and the quadratic one, the cosine has none."""

    kind: Literal["cosine", "linear", "quadratic"] = "cosine"
    timesteps: int = Field(default=1000, ge=1)
    beta_start: float = Field(default=1e-4, gt=0, lt=1)
    beta_end: float = Field(default=0.02, gt=0, lt=1)


class TimesOptions(Options):
    """How training draws its noise levels."""

    kind: Literal["log_snr", "antithetic", "uniform"] = Field(
        default="log_snr", description="normal in log(signal / noise), in pairs t and T + 1 - t, or independent"
    )
    mean: float = Field(default=-1.5, description="of log_snr")
    deviation: float = Field(default=2.0, gt=0, description="of log_snr")


class NetworkOptions(Options):
    """The denoiser network: ``film`` is ours, ``paper`` that of Lacan et al."""

    kind: Literal["film", "paper"] = "film"
    width: int = Field(default=256, ge=1)
    depth: int = Field(default=2, ge=1, description="residual blocks (film) or dense layers (paper)")
    dropout: float = Field(default=0.1, ge=0, lt=1)
    embedding_dim: int = Field(default=128, ge=2, description="of each condition, and of time (film)")


class SamplerOptions(Options):
    """How a trained denoiser is sampled; ``ddpm`` is eta = 1, ``ddim`` eta = 0 of the same update."""

    name: Literal["ddpm", "ddim", "dpm_solver"] = "ddpm"
    steps: int = Field(default=50, ge=1)
    spacing: Literal["linspace", "trailing", "leading", "log_snr"] = "trailing"
    exact_gaussian: bool = Field(
        default=True, description="no error of discretisation in the Gaussian part of a `residual` denoiser"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


class DiffusionOptions(GeneratorOptions):
    """One denoiser; its samplers are ``ddpm``, ``ddim`` and ``dpm_solver``."""

    scaling: Literal["standard", "max_abs"] = "standard"
    prediction: Literal["residual", "eps", "v", "x0"] = Field(
        default="residual", description="residual: what a class-conditional Gaussian leaves unexplained"
    )
    learnt_axes: float = Field(
        default=0.25, gt=0, le=1, description="axes the network corrects, per training profile (residual)"
    )
    loudness: float = Field(
        default=0.7, ge=0, le=1, description="how much of a profile's own scatter is a coordinate (residual)"
    )
    times: TimesOptions = TimesOptions()
    validation_repeats: int = Field(default=8, ge=1, description="times and noises per validation profile")
    schedule: ScheduleOptions = ScheduleOptions()
    network: NetworkOptions = NetworkOptions()
    training: TrainingOptions = TrainingOptions(batch_size=128, max_steps=600, validate_every=50, ema_decay=0.998)
    sampler: SamplerOptions = SamplerOptions()


class SamplingOptions(Options):
    """How profiles are drawn from any generator."""

    seed: int = Field(ge=0)
    batch_size: int = Field(default=1024, gt=0, description="profiles in work at once; bounds memory")


class RNAseqDBOptions(Options):
    """Which of the published RNAseqDB files are read."""

    kinds: list[Literal["gtex", "tcga", "tcga-t"]] = Field(
        default=["gtex", "tcga", "tcga-t"],
        min_length=1,
        description="GTEx normals, TCGA normals adjacent to a tumour, TCGA tumours",
    )


class SimulationOptions(Options):
    """The simulated cohort: ``structure_seed`` fixes the population, ``draw_seed`` the samples drawn from it."""

    samples: int = Field(default=600, ge=1)
    tissues: int = Field(default=8, ge=1)
    targets: int = Field(default=2000, ge=0)
    structure_seed: int = Field(default=0, ge=0)
    draw_seed: int = Field(default=1, ge=0)


class IngestionOptions(Options):
    """How samples get their tissue, and which tissues and genes are kept."""

    tissues: dict[str, str] | None = Field(
        default=None, description="source to tissue; null where the cohort brings a column `tissue`"
    )
    min_samples_per_tissue: int = Field(default=20, ge=1)
    min_expressed_share: float = Field(
        default=0.0, ge=0, le=1, description="share of training samples above zero that a gene needs"
    )


class SplitOptions(Options):
    """Folds of donors (or of samples, as in the paper); the folds left over are the training part."""

    strategy: Literal["donor", "random"] = "donor"
    n_folds: int = Field(default=10, ge=3)
    test_folds: int = Field(default=2, ge=1)
    validation_folds: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)

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


class NeighbourOptions(Options):
    """k of the nearest-neighbour indicators per space; Lacan et al. (2026) use 10 and 50."""

    landmarks: int = Field(default=10, gt=0)
    transcriptome: int = Field(default=50, gt=0)


class ClassifierOptions(Options):
    """The tissue classifiers of reverse validation: a multilayer perceptron per seed, one logistic regression."""

    hidden: list[PositiveInt] = Field(default=[256, 64], min_length=1, description="widths of the layers")
    dropout: float = Field(default=0.5, ge=0, lt=1)
    epochs: int = Field(default=100, ge=1, description="at most; validation decides")
    patience: int = Field(default=20, ge=1, description="epochs without a better validation loss")
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0, lt=1)
    batch_size: int = Field(default=64, ge=2)
    seeds: list[int] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    logistic_c: float = Field(default=1.0, gt=0, description="inverse of the L2 penalty, as in scikit-learn")


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

    @field_validator("penalties")
    @classmethod
    def _penalties_are_positive(cls, penalties: list[float]) -> list[float]:
        if min(penalties) <= 0:
            raise ValueError('penalties must be positive; for none at all set method to "ols".')
        return penalties


class EvaluationOptions(Options):
    """The scorecard: matched draws, neighbours, classifiers of reverse validation."""

    label: str = Field(default="tissue", description="column that classifiers learn and draws are matched on")
    seed: int = Field(default=0, ge=0)
    draws: int = Field(default=10, ge=1)
    neighbours: NeighbourOptions = NeighbourOptions()
    classifier: ClassifierOptions = ClassifierOptions()
