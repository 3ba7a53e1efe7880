"""Options of the generators and of their samplers."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from transcriptome_diffusion.options import Options, TrainingOptions

#: in place of a size: one that depends on the number of training profiles, see ``diffusion.sizes``
Auto = Literal["auto"]
AUTO: Auto = "auto"


class GeneratorOptions(Options):
    """What every generator takes."""

    conditions: list[str] = Field(default=["tissue"], min_length=1)
    seed: int = Field(default=0, ge=0)
    lower_bound: Literal["data", "none"] = Field(
        default="data",
        description="of drawn values: that of the training profiles; none keeps linear values below zero as well, "
        "written as -log2(1 - x)",
    )
    marginal_map: bool = Field(
        default=True, description="whether drawn values get the distribution of the training values, gene by gene"
    )


class ClassGaussianOptions(GeneratorOptions):
    """Class-conditional Gaussian; Ledoit and Wolf's formula sets the shrinkage from the data."""

    min_samples: int = Field(default=10, ge=2, description="smaller classes share one pooled covariance")


class ClassKDEOptions(ClassGaussianOptions):
    """Class-conditional kernel density; the bandwidth is chosen by validation likelihood."""

    bandwidths: list[PositiveFloat] = Field(
        default=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.4, 1.6, 2.0, 2.5, 3.0],
        min_length=1,
        description="in within-class standard deviations",
    )


class ClassBootstrapOptions(GeneratorOptions):
    """Bootstrap of sub-classes: mixtures of training profiles, and noise with the variance of held-out donors."""

    subclasses: list[str] = Field(
        default=["study", "sample_type"],
        description="columns of the sample table that divide a class, where it has them",
    )
    min_samples: int = Field(default=10, ge=4, description="smaller sub-classes mix the profiles of their class")
    profiles: int = Field(default=3, ge=1, description="that are mixed")
    leading: int = Field(default=50, ge=0, description="principal axes that count as leading")
    share_leading: float = Field(default=0.8, ge=0, le=1, description="of the variance that mixtures have there")
    share_other: float = Field(default=0.4, ge=0, le=1, description="the same on the other axes")
    redraw_percentile: float = Field(
        default=2.0,
        ge=0,
        lt=100,
        description="of distances between training profiles of different donors; what lies nearer to one is redrawn",
    )


class ScheduleOptions(Options):
    """The noise schedule; the linear and the quadratic one run from ``beta_start`` to ``beta_end``."""

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
    width: int = Field(default=128, ge=1)
    depth: int = Field(default=3, ge=1, description="residual blocks, of two dense layers each")
    dropout: float = Field(default=0.43, ge=0, lt=1)
    embedding_dim: int = Field(default=128, ge=2, description="of each condition and of time; paper: per category")
    time_shift: float = Field(
        default=0.0, ge=0, lt=1, description="taken from the time in (0, 1] that `paper` sees; theirs starts at 0"
    )


class DenoiserNetworkOptions(NetworkOptions):
    """The network of a denoiser, whose sizes may be left to the number of training profiles."""

    width: PositiveInt | Auto = AUTO  # type: ignore[assignment]
    depth: PositiveInt | Auto = Field(  # type: ignore[assignment]
        default=AUTO, description="residual blocks, of two dense layers each"
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | Auto = AUTO  # type: ignore[assignment]


class DenoiserTrainingOptions(TrainingOptions):
    """Training of a denoiser, whose sizes may be left to the number of training profiles."""

    batch_size: Annotated[int, Field(ge=2)] | Auto = AUTO  # type: ignore[assignment]
    max_steps: PositiveInt | Auto = AUTO  # type: ignore[assignment]
    validate_every: PositiveInt | Auto = Field(default=AUTO, description="in steps")  # type: ignore[assignment]
    weight_decay: NonNegativeFloat | Auto = AUTO  # type: ignore[assignment]


class SamplerOptions(Options):
    """How a trained denoiser is sampled; ``ddpm`` is eta = 1, ``ddim`` eta = 0 of the same update."""

    name: Literal["ddpm", "ddim", "dpm_solver"] = "ddpm"
    steps: int = Field(default=50, ge=1)
    spacing: Literal["linspace", "trailing", "leading", "log_snr"] = "trailing"
    exact_gaussian: bool = Field(
        default=True, description="the Gaussian part of a `residual` denoiser has no discretisation error"
    )
    guidance: float = Field(
        default=1.0, ge=0, description="weight of the label's effect on the estimate of x_0; 1 is off"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


class LineTimesOptions(Options):
    """How flow matching draws its times in training."""

    kind: Literal["logit_normal", "uniform"] = "logit_normal"
    mean: float = Field(default=0.75, description="of logit(t); the default is that of diffusion's log_snr")
    deviation: float = Field(default=1.0, gt=0, description="of logit(t)")


class LineSamplerOptions(Options):
    """How flow matching integrates its velocity."""

    name: Literal["flow_matching"] = "flow_matching"
    method: Literal["midpoint", "euler"] = "midpoint"
    intervals: int = Field(default=25, ge=1, description="midpoint evaluates the network twice in each")
    exact_gaussian: bool = Field(
        default=True, description="the Gaussian part of a `residual` denoiser has no discretisation error"
    )
    guidance: float = Field(
        default=1.0, ge=0, description="weight of the label's effect on the estimate of x_0; 1 is off"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


class CoordinateOptions(GeneratorOptions):
    """The coordinates that a network works on: scaled genes, or those of a class-conditional PCA preconditioner.

    All but ``scaling`` concern the preconditioner.
    """

    renamed: ClassVar[dict[str, str]] = {
        "loudness": "log_scale_share",
        "learnt_axes": "components_per_sample",
        "learnt_variance": "component_variance",
    }

    scaling: Literal["standard", "max_abs", "linear_standard", "linear_max_abs"] = "standard"
    train_on: Literal["train", "train_and_validation"] = Field(
        default="train", description="with validation profiles, their loss chooses nothing: keep the last weights"
    )
    log_scale_share: float = Field(
        default=0.94, ge=0, le=1, description="how much of a profile's own log scale is a coordinate"
    )
    components_per_sample: float = Field(
        default=0.4, gt=0, le=1, description="principal components that the network models, per training sample"
    )
    component_variance: float | None = Field(
        default=None, gt=0, le=1, description="instead, as many components as hold this share of the variance"
    )

    @property
    def preconditioned(self) -> bool:
        """Whether the coordinates are those of the preconditioner; a subclass answers."""
        raise NotImplementedError


class DenoiserOptions(CoordinateOptions):
    """What diffusion and flow matching share; ``prediction`` is narrowed by each."""

    prediction: str = "residual"
    loss: Literal["mean", "sum"] = Field(
        default="mean", description="of squared errors over genes; `residual` has weights of its own"
    )
    clip: bool = Field(default=True, description="estimates of x_0 to the range of training profiles, widened by half")
    validation_repeats: int = Field(default=8, ge=1, description="times and noises per validation profile")
    components_per_sample: Annotated[float, Field(gt=0, le=1)] | Auto = Field(  # type: ignore[assignment]
        default=AUTO, description="as in CoordinateOptions"
    )
    label_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of training profiles without a label, which `guidance` needs"
    )
    network: DenoiserNetworkOptions = DenoiserNetworkOptions()
    training: DenoiserTrainingOptions = DenoiserTrainingOptions(learning_rate=7e-4, ema_decay=0.998)

    @property
    def preconditioned(self) -> bool:
        return self.prediction == "residual"


class DiffusionOptions(DenoiserOptions):
    """One denoiser; its samplers are ``ddpm``, ``ddim`` and ``dpm_solver``."""

    prediction: Literal["residual", "eps", "v", "x0"] = Field(
        default="residual", description="residual: what a class-conditional Gaussian leaves unexplained"
    )
    times: TimesOptions = TimesOptions()
    schedule: ScheduleOptions = ScheduleOptions()
    sampler: SamplerOptions = SamplerOptions()


class FlowMatchingOptions(DenoiserOptions):
    """The same denoiser on straight paths."""

    prediction: Literal["residual", "velocity"] = Field(
        default="residual", description="residual: what a class-conditional Gaussian leaves unexplained"
    )
    log_scale_share: float = Field(default=0.72, ge=0, le=1, description="as in CoordinateOptions")
    times: LineTimesOptions = LineTimesOptions()
    training: DenoiserTrainingOptions = DenoiserTrainingOptions(learning_rate=9.4e-4, ema_decay=0.998, patience=5)
    sampler: LineSamplerOptions = LineSamplerOptions()


class LatentOptions(CoordinateOptions):
    """What generators share that decode a latent Gaussian in one pass."""

    space: Literal["gaussian", "genes"] = Field(
        default="gaussian", description="coordinates of the class-conditional PCA preconditioner, or scaled genes"
    )
    architecture: Literal["default", "paper"] = Field(
        default="default", description="paper: labels, slopes and first weights of the networks of Lacan et al."
    )
    latent_dim: int = Field(default=32, ge=1)
    hidden: list[PositiveInt] = Field(default=[256, 128], min_length=1, description="widths of the layers")
    embedding_dim: int = Field(default=16, ge=1, description="of each condition; paper: of each category")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    batch_norm: bool = False
    validation_repeats: int = Field(default=8, ge=2, description="draws per validation profile")

    @property
    def preconditioned(self) -> bool:
        return self.space == "gaussian"


class VAEOptions(LatentOptions):
    """Variational autoencoder; ``hidden`` is the encoder's, the decoder mirrors it."""

    log_scale_share: float = Field(default=0.9, ge=0, le=1, description="as in CoordinateOptions")
    components_per_sample: float = Field(default=0.25, gt=0, le=1, description="as in CoordinateOptions")
    latent_dim: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.12, ge=0, lt=1)
    batch_norm: bool = True
    beta: float = Field(default=18.0, gt=0, description="weight of the divergence; variance of the decoder's noise")
    loss: Literal["bound", "means"] = Field(
        default="bound", description="bound: sums over coordinates and latents; means: averages over them, the paper's"
    )
    noise: Literal["held_out", "none"] = Field(
        default="held_out", description="what samples add to the decoder's mean; none is the paper's"
    )
    training: TrainingOptions = TrainingOptions(
        batch_size=128, max_steps=1500, learning_rate=3.3e-3, weight_decay=0.13, ema_decay=0.99, validate_every=50
    )


class CriticOptions(Options):
    """The critic of a WGAN-GP."""

    hidden: list[PositiveInt] = Field(default=[256, 128], min_length=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    steps: int = Field(default=2, ge=1, description="per step of the generator")
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    gradient_penalty: float = Field(default=1.0, gt=0)


class WGANGPOptions(LatentOptions):
    """Wasserstein GAN with gradient penalty; steps count those of the generator."""

    log_scale_share: float = Field(default=0.85, ge=0, le=1, description="as in CoordinateOptions")
    components_per_sample: float = Field(default=0.05, gt=0, le=1, description="as in CoordinateOptions")
    critic: CriticOptions = CriticOptions()
    training: TrainingOptions = TrainingOptions(
        optimizer="adam",
        betas=(0.0, 0.9),
        batch_size=128,
        max_steps=1500,
        learning_rate=1e-3,
        learning_rate_schedule="constant",
        weight_decay=0,
        gradient_clip=None,
        ema_decay=0.99,
        validate_every=50,
    )


class SamplingOptions(Options):
    """How profiles are drawn from any generator."""

    seed: int = Field(ge=0, description="the same seed, the same profiles")
    batch_size: int = Field(default=1024, gt=0, description="profiles drawn at a time; bounds memory")


class GenerationOptions(Options):
    """Profiles on request from a trained generator: ``kedro run --pipelines generation``."""

    generator: str = Field(default="ddim", description="by its name on the scorecard")
    profiles: dict[str, PositiveInt] = Field(
        default={}, description="how many by label; several conditions are joined by |, as in `lung|tumor`"
    )
    total: PositiveInt | None = Field(
        default=None, description="without `profiles`, how many in the proportions of training; null: as in training"
    )
    run: PositiveInt = Field(default=1, description="which of the generator's trainings")
    seed: int = Field(default=0, ge=0)
    steps: PositiveInt | None = Field(default=None, description="of the sampler; null: those of its parameters")
    sampler: dict[str, Any] = Field(default={}, description="other settings of the sampler, such as `spacing`")
    transcriptome: str = Field(
        default="none", description="all genes by a reconstructor, such as ridge_noise, or by a model of all: direct"
    )
    scale: Literal["log2", "linear", "counts"] = "log2"
    counts_of: str | None = Field(
        default=None, description="for counts, the training profiles of a cohort of read counts, an h5ad"
    )
    library_size: PositiveInt | None = Field(
        default=None, description="for counts, reads of every sample; null: those of training samples of the class"
    )
    format: Literal["h5ad", "csv", "csv.gz", "tsv", "tsv.gz", "parquet", "gct", "gct.gz"] = "h5ad"
