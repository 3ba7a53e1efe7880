"""Closed models of every parameter block: a misspelt key or an impossible value stops the run before it starts.

Each block stands in ``conf/*/parameters_<pipeline>.yml``; the comments there say where a number comes from.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

#: how a source names its genes
GeneIds = Literal["ensembl", "entrez", "symbol", "symbol|entrez"]


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
    max_epochs: int | None = Field(default=None, ge=1, description="passes over the training rows; sets max_steps")
    optimizer: Literal["adamw", "adam", "rmsprop"] = "adamw"
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="of adamw and adam")
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


class LineTimesOptions(Options):
    """How flow matching draws its times in training."""

    kind: Literal["logit_normal", "uniform"] = "logit_normal"
    mean: float = Field(default=0.75, description="of logit(t); the default is that of diffusion's log_snr")
    deviation: float = Field(default=1.0, gt=0, description="of logit(t)")


class LineSamplerOptions(Options):
    """How flow matching follows its velocity."""

    name: Literal["flow_matching"] = "flow_matching"
    method: Literal["midpoint", "euler"] = "midpoint"
    intervals: int = Field(default=25, ge=1, description="midpoint evaluates the network twice in each")
    exact_gaussian: bool = Field(
        default=True, description="no error of discretisation in the Gaussian part of a `residual` denoiser"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"


class DenoiserOptions(GeneratorOptions):
    """What diffusion and flow matching share; ``prediction`` is narrowed by each."""

    scaling: Literal["standard", "max_abs", "linear_max_abs"] = "standard"
    prediction: str = "residual"
    learnt_axes: float = Field(
        default=0.25, gt=0, le=1, description="axes the network corrects, per training profile (residual)"
    )
    learnt_variance: float | None = Field(
        default=None, gt=0, le=1, description="instead, axes that hold this share of the variance along all (residual)"
    )
    loudness: float = Field(
        default=0.7, ge=0, le=1, description="how much of a profile's own scatter is a coordinate (residual)"
    )
    validation_repeats: int = Field(default=8, ge=1, description="times and noises per validation profile")
    network: NetworkOptions = NetworkOptions()
    training: TrainingOptions = TrainingOptions(batch_size=128, max_steps=600, validate_every=50, ema_decay=0.998)


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
    times: LineTimesOptions = LineTimesOptions()
    sampler: LineSamplerOptions = LineSamplerOptions()


class LatentOptions(GeneratorOptions):
    """What generators share that decode a latent Gaussian in one pass."""

    space: Literal["gaussian", "genes"] = Field(
        default="gaussian", description="coordinates: axes of a class-conditional Gaussian, or the scaled genes"
    )
    scaling: Literal["standard", "max_abs", "linear_max_abs"] = "standard"
    loudness: float = Field(
        default=0.85, ge=0, le=1, description="how much of a profile's own scatter is a coordinate (gaussian)"
    )
    learnt_axes: float = Field(default=0.25, gt=0, le=1, description="axes learnt, per training profile (gaussian)")
    learnt_variance: float | None = Field(
        default=None, gt=0, le=1, description="instead, axes that hold this share of the variance along all (gaussian)"
    )
    latent_dim: int = Field(default=32, ge=1)
    hidden: list[PositiveInt] = Field(default=[256, 128], min_length=1, description="widths of the layers")
    embedding_dim: int = Field(default=16, ge=1, description="of each condition")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    batch_norm: bool = False
    validation_repeats: int = Field(default=8, ge=2, description="draws per validation profile")


class VAEOptions(LatentOptions):
    """Variational autoencoder; ``hidden`` is the encoder's, the decoder mirrors it."""

    latent_dim: int = Field(default=16, ge=1)
    batch_norm: bool = True
    beta: float = Field(default=6.0, gt=0, description="weight of the divergence; variance of the decoder's noise")
    noise: Literal["held_out", "none"] = Field(
        default="held_out", description="what samples add to the decoder's mean; none is the paper's"
    )
    training: TrainingOptions = TrainingOptions(
        batch_size=128, max_steps=1000, learning_rate=2e-3, weight_decay=0.1, ema_decay=0.99, validate_every=50
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

    learnt_axes: float = Field(default=0.05, gt=0, le=1, description="as in LatentOptions")
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

    seed: int = Field(ge=0)
    batch_size: int = Field(default=1024, gt=0, description="profiles in work at once; bounds memory")


class RNAseqDBOptions(Options):
    """Which of the published RNAseqDB files are read."""

    kinds: list[Literal["gtex", "tcga", "tcga-t"]] = Field(
        default=["gtex", "tcga", "tcga-t"],
        min_length=1,
        description="GTEx normals, TCGA normals adjacent to a tumour, TCGA tumours",
    )


class GTExOptions(Options):
    """What of a GTEx release is read; the further files stand beside the matrix, or where they are said to."""

    tissue: str = Field(
        default="SMTS", description="column of the sample attributes: SMTS (30 tissues) or SMTSD (54 sites)"
    )
    genes: Literal["coding", "all"] = Field(default="coding", description="all needs no gene model")
    attributes: str | None = Field(default=None, description="path from the matrix's folder; null: by published name")
    phenotypes: str | None = Field(default=None, description="likewise")
    gene_model: str | None = Field(default=None, description="likewise, a GTF file")


class TCGAOptions(Options):
    """Which TCGA samples are read, and from which packaging of them."""

    packaging: Literal["gdc", "xena", "firehose"] | None = Field(
        default=None, description="null: the one whose files are in the folder"
    )
    sample_types: list[Literal["tumor", "normal"]] = Field(
        default=["tumor", "normal"], min_length=1, description="by the barcode: codes 01 to 09, and 10 to 19"
    )
    do_not_use: Literal["drop", "keep"] = Field(
        default="drop", description="samples that the quality annotations mark Do_not_use"
    )


class ToilOptions(Options):
    """Which samples of the Toil recompute are read, and what names their tissue."""

    studies: list[Literal["TCGA", "TARGET", "GTEX"]] = Field(default=["TCGA", "TARGET", "GTEX"], min_length=1)
    sample_types: list[Literal["tumor", "normal", "cell_line"]] = Field(default=["tumor", "normal"], min_length=1)
    tissue: str = Field(default="_primary_site", description="column of the phenotype table")
    genes: Literal["coding", "all"] = Field(
        default="all", description="coding needs a gene model (GTF) beside the matrix, such as GENCODE 23"
    )


class OwnOptions(Options):
    """One matrix, one sample table and, if need be, one gene table; their columns and the unit."""

    samples: str | None = Field(default=None, description="sample table, from the matrix's folder; null: the h5ad's")
    columns: dict[str, str] = Field(
        default={}, description="ours to yours: sample, tissue, donor, study, and any further covariate"
    )
    genes: str | None = Field(default=None, description="gene table, from the matrix's folder")
    gene_columns: dict[str, str] = Field(
        default={}, description="ours to yours: gene (the id in the matrix), symbol, entrez_id, ensembl_id"
    )
    gene_ids: GeneIds | None = Field(default=None, description="null: recognised; a mixture is refused")
    unit: str | None = Field(
        default=None, description="TPM, log2(TPM + 1), log2(TPM + 0.001), ...; null: found out where it can be"
    )
    genes_in: Literal["rows", "columns"] | None = Field(
        default=None, description="null: where the sample table's ids are not"
    )
    id_columns: Literal[1, 2] = Field(default=1, description="of a text matrix; the second names the genes' symbols")
    separator: str | None = Field(
        default=None, min_length=1, max_length=1, description="of text; null: a comma in .csv, a tab in all else"
    )
    encoding: str = Field(default="utf-8", description="of the sample and the gene table")

    @field_validator("gene_columns")
    @classmethod
    def _know_the_gene_columns(cls, columns: dict[str, str]) -> dict[str, str]:
        known = {"gene", "symbol", "entrez_id", "ensembl_id"}
        if unknown := sorted(set(columns) - known):
            raise ValueError(f"gene_columns knows {sorted(known)}, not {unknown}.")
        return columns


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
    missing: Literal["refuse", "drop", "impute", "zero"] = Field(
        default="refuse",
        description="missing values: an error, drop the gene, fill by the training samples' median, or 0 (the paper's)",
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
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0, lt=1)
    batch_size: int = Field(default=64, ge=2)
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"
    seeds: list[int] = Field(default=[0, 1, 2, 3, 4], min_length=1)
    logistic_c: float = Field(default=1.0, gt=0, description="inverse of the L2 penalty, as in scikit-learn")


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


class ContrastOptions(Options):
    """Two conditions that are compared within every tissue that has both."""

    column: str = Field(default="sample_type", description="of the sample table")
    first: str = "tumor"
    second: str = "normal"


class EvaluationOptions(Options):
    """The scorecard: matched draws, neighbours, classifiers of reverse validation, biology."""

    label: str = Field(default="tissue", description="column that classifiers learn and draws are matched on")
    seed: int = Field(default=0, ge=0)
    draws: int = Field(default=10, ge=1)
    most_profiles: int = Field(
        default=2048,
        ge=30,
        description="of a matched draw on each side, as in the paper; larger cohorts are thinned, and of all genes "
        "copies are looked for among so many",
    )
    components: int = Field(default=50, ge=1, description="principal axes of the Fréchet distance without classifier")
    folds: int = Field(default=5, ge=2, description="cross-validation of the classifier two-sample tests")
    contrast: ContrastOptions | None = Field(
        default=ContrastOptions(), description="differential expression within tissues; null for none"
    )
    gene_names: Literal["symbol", "entrez_id", "ensembl_id"] = Field(
        default="symbol", description="how the user's gene sets (dataset `gene_sets`) name genes"
    )
    neighbours: NeighbourOptions = NeighbourOptions()
    classifier: ClassifierOptions = ClassifierOptions()
    transcriptome_classifier: ClassifierOptions | None = Field(default=None, description="null: as on landmarks")


class Dimension(Options):
    """The values a search may give one setting; ``low`` and ``high`` are included."""

    kind: Literal["float", "int", "categorical"]
    low: float | None = None
    high: float | None = None
    log: bool = Field(default=False, description="drawn evenly on a logarithmic scale")
    step: float | None = Field(default=None, gt=0, description="grid from `low`; null for none (float) or 1 (int)")
    choices: list[Any] | None = Field(default=None, min_length=2, description="anything that YAML can write")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "categorical":
            if self.choices is None or (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ValueError("a categorical dimension takes `choices`, and neither low, high, log nor step.")
            return self
        if self.choices is not None or self.low is None or self.high is None or self.low >= self.high:
            raise ValueError(f"a {self.kind} dimension takes `low` < `high`, and no choices.")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a logarithmic dimension needs `low` > 0 and takes no step.")
        if self.kind == "int" and any(v is not None and v != int(v) for v in (self.low, self.high, self.step)):
            raise ValueError("low, high and step of an int dimension must be whole numbers.")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """``low`` and ``high`` of a dimension of numbers, whole ones for kind int."""
        if self.low is None or self.high is None:
            raise ValueError("a categorical dimension has no bounds.")
        return (int(self.low), int(self.high)) if self.kind == "int" else (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether the search could try ``value``."""
        if self.choices is not None:
            return value in self.choices
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        low, high = self.bounds
        step = self.step or (1 if self.kind == "int" else None)
        steps = 0.0 if step is None else (value - low) / step
        return low <= value <= high and abs(steps - round(steps)) < 1e-9

    def extremes(self) -> list[Any]:
        """Every choice, or both ends."""
        return list(self.bounds) if self.choices is None else self.choices


class TuningOptions(Options):
    """The search for settings; `spaces` maps a generator to its dimensions by dotted path of the option."""

    generators: list[str] | None = Field(default=None, description="which are searched; null for all with a space")
    trials: int = Field(default=30, ge=1, description="in all, over every process and session that shares the study")
    seconds: float | None = Field(default=None, gt=0, description="no trial begins later than this in a session")
    seeds: int = Field(default=2, ge=1, description="trainings per trial; their mean counts")
    objective: Literal["f1", "likeness"] = "f1"
    copying_penalty: float = Field(default=1.0, ge=0, description="per share of copies above the null")
    pruner: Literal["median", "none"] = "median"
    startup: int = Field(default=10, ge=0, description="random trials before the sampler models and the pruner prunes")
    seed: int = Field(default=0, ge=0)
    storage: str = Field(default="data/09_tuning/studies.db", description="an SQLite file")
    parameters_folder: str = Field(default="conf/local", description="environment that gets the tuned settings")
    preset: str = Field(default="default", description="whose settings are searched; only `default` may be")
    spaces: dict[str, dict[str, Dimension]] = {}


class PublishedFile(Options):
    """One file of a cohort, and where its publisher keeps it."""

    name: str = Field(pattern=r"^[^/\\]+$", description="under which it is kept")
    url: str | None = Field(default=None, description="complete, or relative to `base`; null: the name itself")
    bytes: PositiveInt | None = Field(default=None, description="its size, where known")
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$", description="of its bytes, where known")
    member: str | None = Field(
        default=None, description="pattern of the one file to keep of a tar archive; null keeps the file as it comes"
    )
    each: list[str] = Field(default=[], description="a file for each of these, in place of {} in name and url")

    @model_validator(mode="after")
    def _one_file_has_the_size(self) -> Self:
        if self.each and (self.bytes or self.sha256 or "{}" not in self.name):
            raise ValueError(f"{self.name}: `each` needs {{}} in the name, and is of several sizes and hashes.")
        return self

    def expanded(self) -> list[PublishedFile]:
        """The files meant, each on its own."""
        if not self.each:
            return [self]
        url = self.url
        return [
            PublishedFile(name=self.name.replace("{}", one), url=url and url.replace("{}", one), member=self.member)
            for one in self.each
        ]


class DownloadOptions(Options):
    """The published files of a cohort, and how patiently they are fetched."""

    folder: str = Field(default="data/01_raw", description="where `raw_cohort` reads them")
    base: str | None = Field(default=None, description="address of the publisher's folder, with a slash at its end")
    files: list[PublishedFile] = []
    retries: int = Field(default=5, ge=0, description="attempts in a row that may bring nothing new")
    pause: float = Field(default=2.0, ge=0, description="seconds before the first of them; doubles up to a minute")
    timeout: float = Field(default=60.0, gt=0, description="seconds of silence that count as a dropped connection")

    @field_validator("files")
    @classmethod
    def _name_each(cls, files: list[PublishedFile]) -> list[PublishedFile]:
        return [one for file in files for one in file.expanded()]

    def address(self, file: PublishedFile) -> str:
        """The complete address of ``file``."""
        from urllib.parse import quote, urljoin

        return urljoin(self.base or "", file.url or quote(file.name))

    @model_validator(mode="after")
    def _addresses_are_complete(self) -> Self:
        for file in self.files:
            if not (address := self.address(file)).startswith(("http://", "https://")):
                raise ValueError(f"{file.name}: {address!r} is no http(s) address; complete `url` or `base`.")
        if len({file.name for file in self.files}) < len(self.files):
            raise ValueError("two of `files` have the same name.")
        return self


class AugmentationOptions(Options):
    """The low-sample experiment: few real profiles, synthetic ones beside them, a classifier tested on other donors."""

    generators: list[str] | None = Field(
        default=["class_gaussian", "vae", "wgan_gp", "ddim"], description="which take part; null for all"
    )
    profiles_per_label: list[PositiveInt | None] = Field(
        default=[5, 10, 25, 50, None], min_length=1, description="real training profiles of every label; null for all"
    )
    ratios: list[PositiveInt] = Field(
        default=[1, 5, 20], min_length=1, description="synthetic profiles per real one; 0 is always among them"
    )
    seeds: list[NonNegativeInt] = Field(
        default=[0, 1, 2], min_length=1, description="each with its own donors, training, draws and classifiers"
    )
    neighbours: int = Field(default=5, ge=1, description="of a profile in SMOTE")
    classifiers: list[Literal["mlp", "logistic"]] = Field(default=["mlp", "logistic"], min_length=1)
    classifier: ClassifierOptions = Field(
        default=ClassifierOptions(), description="its own seeds do not count: `seeds` above do"
    )

    @field_validator("profiles_per_label")
    @classmethod
    def _two_profiles_or_more(cls, sizes: list[int | None]) -> list[int | None]:
        if any(size is not None and size < 2 for size in sizes):
            raise ValueError(f"a generator needs two profiles of a label to see any variance, found {sizes}.")
        return sizes


class StudyOptions(Options):
    """The paper's whole experiment: trainings, sampling steps, and which published values stand beside ours."""

    runs: int = Field(default=5, ge=1, description="trainings per generator, in place of the default run's `runs`")
    resume: bool = Field(default=True, description="keep trainings that are there, with the same data and settings")
    steps: list[PositiveInt] = Field(
        default=[50, 100, 1000], min_length=1, description="of each sampler of the denoiser; at most its timesteps"
    )
    published: Literal["gtex", "tcga"] | None = Field(
        default=None, description="cohort of the paper that the data are; null: no published values beside ours"
    )
