"""Options of the search, the low-sample experiment and the study."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from transcriptome_diffusion.generators.privacy_options import Dial
from transcriptome_diffusion.metrics.options import ClassifierOptions
from transcriptome_diffusion.options import Options


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
    storage: str = Field(
        default="data/09_tuning/studies.db",
        description="an SQLite file, a .journal file on a shared disk, or a database's URL",
    )
    preset: str = Field(default="default", description="whose settings are searched; only `default` may be")
    spaces: dict[str, dict[str, Dimension]] = Field(default={})


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
    dials: list[Dial] = Field(
        default=["none", "reference_axes", "dp"],
        description="with a `reference_cohort`: how generators use it, each in rows beside those without",
    )
    epsilons: list[PositiveFloat] = Field(
        default=[1.0, 4.0, 8.0, 16.0],
        description="with a `reference_cohort`: budgets of class_gaussian with `privacy.dial: dp`",
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
    detail: Literal["standard", "full"] = Field(default="full", description="which transcriptomes are made and scored")
    resume: bool = Field(default=True, description="keep trainings that are there, with the same data and settings")
    steps: list[PositiveInt] = Field(
        default=[10, 20, 50, 100, 1000],
        min_length=1,
        description="of each sampler of the denoiser; at most its timesteps",
    )
    published: Literal["gtex", "tcga"] | None = Field(
        default=None, description="cohort of the paper whose published values stand beside ours; null: none"
    )
