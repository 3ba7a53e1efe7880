"""Options of the evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from transcriptome_diffusion.options import Options


class NeighbourOptions(Options):
    """k of the nearest-neighbour indicators per space; Lacan et al. (2026) use 10 and 50."""

    landmarks: int = Field(default=10, gt=0)
    transcriptome: int = Field(default=50, gt=0)


class ClassifierOptions(Options):
    """The tissue classifiers of reverse validation: a multilayer perceptron per seed, one logistic regression."""

    hidden: list[PositiveInt] = Field(default=[128, 64], min_length=1, description="widths of the layers")
    dropout: float = Field(default=0.2, ge=0, lt=1)
    epochs: int = Field(default=100, ge=1, description="at most; validation decides")
    patience: int = Field(default=5, ge=1, description="epochs without a better validation loss")
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1.5e-3, gt=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0, lt=1)
    batch_size: int = Field(default=64, ge=2)
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"
    seeds: list[int] = Field(default=[0, 1, 2], min_length=1)
    logistic_c: float = Field(default=1.0, gt=0, description="inverse of the L2 penalty, as in scikit-learn")


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
    umap: bool = Field(default=False, description="a UMAP in the report as well; needs the extra `umap`")
    neighbours: NeighbourOptions = NeighbourOptions()
    classifier: ClassifierOptions = ClassifierOptions()
    transcriptome_classifier: ClassifierOptions | None = Field(default=None, description="null: as on landmarks")


class PaperClassifierOptions(Options):
    """The tissue classifier of Lacan et al. (2026): dense layers, ReLU, dropout; the last weights count."""

    hidden: list[PositiveInt] = Field(default=[1024, 1024], min_length=1, description="widths of the layers")
    dropout: float = Field(default=0.3, ge=0, lt=1)
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = Field(default=0.0, ge=0, lt=1, description="of sgd")
    learning_rate: float = Field(default=1.1e-4, gt=0, lt=1)
    batch_size: int = Field(default=64, ge=1)
    epochs: int = Field(default=150, ge=1, description="at most")
    patience: int = Field(default=50, ge=1, description="epochs in a row with a validation accuracy below the best")
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)


class PaperTranscriptomeOptions(Options):
    """The same on all genes, for generators that the paper has: least squares, perceptron, direct generation."""

    neighbours: int = Field(default=50, ge=1, description="k of precision, recall, density and coverage")
    rows: int = Field(default=2048, ge=2, description="of adversarial accuracy and of correlation")
    classifiers: int = Field(default=15, ge=1, description="of reverse validation, each on a drawing of its own")
    classifier: PaperClassifierOptions = PaperClassifierOptions()


class PaperProtocolOptions(Options):
    """The indicators of Lacan et al. (2026), as their code takes them."""

    label: str = "tissue"
    seed: int = Field(default=42, ge=0)
    neighbours: int = Field(default=10, ge=1, description="k of precision, recall, density and coverage")
    drawings: int = Field(default=5, ge=1, description="of one training, from which mean and deviation are taken")
    classifiers: int = Field(default=15, ge=1, description="of reverse validation, each on a drawing of its own")
    steps: list[PositiveInt] = Field(
        default=[], description="of DDPM and DDIM, beside those of their own blocks; without reverse validation"
    )
    most_apart: dict[Literal["max_abs", "standard"], PositiveInt] = Field(
        default={"max_abs": 2048, "standard": 4096},
        description="rows of adversarial accuracy, by scaling",
    )
    classifier: PaperClassifierOptions = PaperClassifierOptions()
    transcriptome: PaperTranscriptomeOptions | None = Field(
        default=None, description="all genes as well, which takes much longer; null for landmark genes alone"
    )
