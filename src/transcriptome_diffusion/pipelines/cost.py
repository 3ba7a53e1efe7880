"""How long a run with large networks takes on this machine, and how much memory: said before it trains them.

Networks of genes are counted, which are those of the paper's presets; those in coordinates of a preconditioner train
for minutes and are not. Sizes are known at the start where parameters or an earlier run give them, else once the cohort
is split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node

from transcriptome_diffusion.experiments.options import StudyOptions
from transcriptome_diffusion.expression.options import SplitOptions
from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.generators.registry import DIRECT, GENERATORS, model_name, trained_models
from transcriptome_diffusion.metrics.options import PaperProtocolOptions
from transcriptome_diffusion.pipelines.generators import Fit, sample_landmarks
from transcriptome_diffusion.pipelines.paper_protocol.nodes import Score
from transcriptome_diffusion.pipelines.reconstruction.nodes import Reconstruct
from transcriptome_diffusion.pipelines.study.nodes import compare_steps

if TYPE_CHECKING:
    from transcriptome_diffusion.training_cost import Layers, Work

#: genes and classes that are assumed until the cohort is read; the number of classes hardly matters
GENES, CLASSES = {"landmarks": 978, "transcriptome": 20_000}, 25
#: share of the training file that classifiers of the paper's protocol are fitted to
FITTED = 0.8
#: ways of the paper's protocol from landmarks to all genes: least squares and perceptron
REBUILT = 2


@dataclass(frozen=True)
class Sizes:
    """Of the cohort: profiles, genes by space, classes; ``assumed`` where genes and classes are not known yet."""

    train: int
    validation: int
    genes: Mapping[str, int]
    classes: int
    assumed: bool = False

    @property
    def both(self) -> int:
        """Profiles of the paper's training file."""
        return self.train + self.validation

    def __str__(self) -> str:
        text = f"{self.train} training and {self.validation} validation profiles of {self.genes['transcriptome']} genes"
        return f"{text} (assumed until the cohort is read)" if self.assumed else text


def sizes_at_start(made: set[str], load: Callable[[str], Any], exists: Callable[[str], bool]) -> Sizes | None:
    """What the parameters of the split say or, where the run does not split, the table of the run that did.

    Args:
        made: names of all that the run makes. load, exists: of parameters and datasets by name.
    """
    found: Mapping[str, int] | None = None
    if "cohort_summary" not in made:
        if exists("cohort_summary"):
            found = load("cohort_summary").query("tissue == 'all'").set_index("split")["samples"].to_dict()
    elif (sizes := SplitOptions.model_validate(load("params:split")).sizes) is not None:
        found = sizes.model_dump()
    return None if found is None else Sizes(found["train"], found["validation"], GENES, CLASSES, assumed=True)


def sizes_after(outputs: Mapping[str, Any]) -> Sizes | None:
    """What the node that filters genes has found; None for the outputs of others."""
    if not {"expression_train", "expression_validation", "gene_panel"} <= outputs.keys():
        return None
    train, validation = outputs["expression_train"], outputs["expression_validation"]
    genes = {"landmarks": int(outputs["gene_panel"]["found"].sum()), "transcriptome": train.n_vars}
    return Sizes(train.n_obs, validation.n_obs, genes, train.obs["tissue"].nunique())


def counted(nodes: Iterable[Node]) -> list[Node]:
    """Those that train or draw, or score by the paper's protocol."""
    functions = (sample_landmarks, compare_steps)
    return [node for node in nodes if isinstance(node.func, Fit | Reconstruct | Score) or node.func in functions]


class RunCost:
    """What trainings, draws and classifiers take; ``options`` is empty where there is no network of genes.

    Args:
        nodes: as ``counted`` gives them. load: gives parameters.
        finished: how many trainings an earlier run has left, by the dataset of the model and the space.

    Attributes:
        options: of networks of genes, by model and space.
    """

    def __init__(self, nodes: Sequence[Node], load: Callable[[str], Any], finished: Callable[[str, str], int]) -> None:
        self.nodes, self.load, self.finished = nodes, load, finished
        study = "study." if any("params:study.runs" in node.inputs for node in self.nodes) else ""
        self.runs, self.resume, self.detail = (load(f"params:{study}{name}") for name in ("runs", "resume", "detail"))
        self.protocol = PaperProtocolOptions.model_validate(load("params:paper_protocol"))
        self.batch_size = SamplingOptions.model_validate(load("params:sampling")).batch_size
        found = {model: dict(self._options(model)) for model in trained_models()}
        self.options = {model: spaces for model, spaces in found.items() if spaces}

    def _options(self, model: str) -> Iterator[tuple[str, Any]]:
        for space in Fit(model).spaces(self.detail):
            block = self.load(f"params:{model}" if space == "landmarks" else f"params:direct_{model}")
            options: Any = trained_models()[model].options.model_validate(block)
            if trained_models()[model].trained and not options.preconditioned:
                yield space, options

    def announce(self, sizes: Sizes) -> None:
        """Log time and memory, with a line for every part."""
        from transcriptome_diffusion.training_cost import announce_run

        announce_run([*self.trainings(sizes), *self.draws(sizes), *self.classifiers(sizes)], str(sizes))

    def trainings(self, sizes: Sizes) -> Iterator[Work]:
        """Those of every model and space that are due."""
        from transcriptome_diffusion.training_cost import work_of_training

        for node in self.nodes:
            if not isinstance(func := node.func, Fit):
                continue
            cls = trained_models()[func.model].load_class()
            for space, options in self.options.get(func.model, {}).items():
                there = min(self.finished(node.outputs[0], space), self.runs) if self.resume else 0
                genes = sizes.genes[space]
                memory = cls.memory_to_fit(sizes.train, sizes.validation, genes, options)
                memory += 4.0 * sizes.both * sum(sizes.genes.values())  # what the node has read
                title = f"{func.model} on {space}" + (f" ({there} more are there already)" if there else "")
                rows = sizes.both if options.train_on == "train_and_validation" else sizes.train
                layers = count_layers(cls, genes, sizes.classes, options)
                yield work_of_training(title, self.runs - there, options.training, rows, *layers, memory)

    def draws(self, sizes: Sizes) -> Iterator[Work]:
        """By the samplers of the denoiser; other generators evaluate their network once for a profile."""
        from transcriptome_diffusion.training_cost import Work

        evaluations = Counter[str]()
        for node in self.nodes:
            for space, count in self._evaluations(node, sizes):
                evaluations[space] += count
        cls = trained_models()[model_name("ddpm")].load_class()
        for space, options in self.options.get(model_name("ddpm"), {}).items():
            whole, *_ = count_layers(cls, sizes.genes[space], sizes.classes, options)
            times, rows = evaluations[space], min(self.batch_size, sizes.both)
            title = f"draws by DDPM and DDIM on {space}, {times:.2g} evaluations of one profile"
            # a third of what a step of training makes of them
            yield Work(title, 1, whole, rows, 2.0 * whole.parameters * times, whole.numbers * times / 3, times / rows)

    def _evaluations(self, node: Node, sizes: Sizes) -> Iterator[tuple[str, int]]:
        """Of the denoiser for a profile, by space."""
        func = node.func
        samplers = [name for name in node.inputs if name in ("params:ddpm", "params:ddim", "params:dpm_solver")]
        if not samplers:
            return
        steps = SamplerOptions.model_validate(self.load(samplers[0])).steps
        if func is sample_landmarks:
            yield "landmarks", self.runs * sizes.train * steps
        elif func is compare_steps:
            compared = StudyOptions.model_validate(self.load("params:study")).steps
            yield "landmarks", self.runs * sizes.train * sum({*compared})
        elif isinstance(func, Reconstruct) and DIRECT in GENERATORS[func.generator].reconstructors(self.detail):
            yield "transcriptome", self.runs * sizes.train * steps
        elif isinstance(func, Score):
            drawings, whole = self.protocol.drawings, self.protocol.transcriptome
            others = drawings * sum({*self.protocol.steps} - {steps})
            on_genes = max(drawings, whole.classifiers) if whole else 0
            yield "landmarks", sizes.both * (max(drawings, self.protocol.classifiers, on_genes) * steps + others)
            yield "transcriptome", sizes.both * on_genes * steps

    def classifiers(self, sizes: Sizes) -> Iterator[Work]:
        """Of the paper's protocol: of every generator and of real profiles, and for every way to all genes."""
        from transcriptome_diffusion.training_cost import PER_WEIGHT, Layers, Work

        landmarks = whole = 0
        for node in self.nodes:
            if isinstance(func := node.func, Score):
                direct = "transcriptome" in self.options.get(model_name(func.generator), {})
                landmarks += 1
                whole += REBUILT + direct if "paper_reconstructors" in node.inputs else 0
        if not landmarks:
            return
        own = self.protocol.transcriptome
        found = [("landmarks", self.protocol.classifier, (landmarks + 1) * self.protocol.classifiers)]
        if own is not None:
            found.append(("transcriptome", own.classifier, (whole + 1) * own.classifiers))
        for space, options, count in found:
            widths = [sizes.genes[space], *options.hidden, sizes.classes]
            network = Layers(sum(a * b for a, b in pairwise(widths)), sum(a + b for a, b in pairwise(widths)))
            seen = FITTED * sizes.both * options.epochs
            steps, needed = seen / options.batch_size, PER_WEIGHT * network.parameters * seen
            numbers = network.numbers * seen + network.parameters * steps
            yield Work(f"tissue classifiers on {space}", count, network, options.batch_size, needed, numbers, steps)


def count_layers(cls: Any, genes: int, classes: int, options: Any) -> tuple[Layers, Layers, int]:
    """An untrained network, the critic in it, and the critic's steps; nothing is allocated.

    Args:
        cls: of the generator. genes: that it models, as they are. classes: of every condition.
    """
    import torch
    from torch import nn

    from transcriptome_diffusion.generators.diffusion.network import build_network
    from transcriptome_diffusion.generators.latent import Coordinates
    from transcriptome_diffusion.training_cost import Layers

    def layers(part: nn.Module) -> Layers:
        dense = [layer for layer in part.modules() if isinstance(layer, nn.Linear)]
        numbers = sum(layer.in_features + layer.out_features for layer in dense)
        return Layers(sum(p.numel() for p in part.parameters()), numbers)

    categories = [classes] * len(options.conditions)
    with torch.device("meta"):
        if hasattr(cls, "to_train"):
            network = cls.to_train(Coordinates(genes, None), categories, options)
        else:
            network = build_network(genes, genes, categories, options.network)
    critic = layers(network.critic) if hasattr(network, "critic") else Layers()
    return layers(network), critic, getattr(network, "critic_steps", 0)
