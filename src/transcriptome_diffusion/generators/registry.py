"""Which generators exist: one line each. To add one, write its class, name it here, give it a block in the parameters.

Classes are named by path, so that listing them imports neither torch nor anndata.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from transcriptome_diffusion.artefacts import ArtefactError, read_description
from transcriptome_diffusion.generators import options
from transcriptome_diffusion.options import Options

if TYPE_CHECKING:
    from transcriptome_diffusion.generators.base import Generator

#: what a user would choose for landmark profiles; ``_noise`` adds residuals to what is reconstructed
STANDARD = ("ridge_noise",)
#: the same without noise, for comparison
PLAIN = ("ridge", *STANDARD)
#: of the generators of Lacan et al. (2026) also the paper's least squares and perceptron
PAPER = (*PLAIN, "ols", "mlp", "mlp_noise")
#: all genes at once, by a second model that is trained on them, without landmarks
DIRECT = "direct"


@dataclass(frozen=True)
class GeneratorSpec:
    """One line of the table.

    Attributes:
        path: ``module:Class``.
        options: the model of its block of parameters, or of the block of the trained model it shares.
        pipeline: the pipeline that trains it.
        model: name of the trained model, its parameters and its folder, where several generators share one; None:
            the generator's own name.
        sampler: the model of the block of parameters that says how the shared model is sampled.
        white_box: whether its trained model gives a loss for a single profile, which an attack can use.
        standard: how its profiles become transcriptomes with ``detail: standard``, by reconstructors or ``DIRECT``.
        full: the same with ``detail: full``.
        role: what its row is there for, if it is no generator under test.
    """

    path: str
    options: type[options.GeneratorOptions]
    pipeline: Literal["baselines", "diffusion_training"] = "baselines"
    model: str | None = None
    sampler: type[Options] | None = None
    white_box: bool = False
    standard: tuple[str, ...] = STANDARD
    full: tuple[str, ...] = PLAIN
    role: Literal["", "floor"] = ""

    @property
    def trained(self) -> bool:
        """Whether it is trained step by step, so that it has a curve."""
        return "training" in self.options.model_fields

    @property
    def whole_transcriptome(self) -> bool:
        """Whether a second model of it is trained on all genes, with ``detail: full`` at least."""
        return DIRECT in self.full

    def reconstructors(self, detail: str) -> tuple[str, ...]:
        """Those of a run with this ``detail``.

        Raises:
            ValueError: if it is neither ``standard`` nor ``full``.
        """
        if detail not in ("standard", "full"):
            raise ValueError(f"`detail` is {detail!r}; expected standard or full.")
        return self.standard if detail == "standard" else self.full

    def load_class(self) -> type[Generator]:
        """Import the class."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(module), name)


_ROOM = "transcriptome_diffusion.generators"
_DDPM = GeneratorSpec(
    f"{_ROOM}.diffusion.model:Diffusion",
    options.DiffusionOptions,
    pipeline="diffusion_training",
    model="denoiser",
    sampler=options.SamplerOptions,
    white_box=True,
    full=PAPER,
)

#: every generator by the name that its row has on the scorecard
GENERATORS: dict[str, GeneratorSpec] = {
    "class_gaussian": GeneratorSpec(
        f"{_ROOM}.class_gaussian:ClassGaussian", options.ClassGaussianOptions, full=(*PLAIN, DIRECT), role="floor"
    ),
    "class_kde": GeneratorSpec(f"{_ROOM}.class_kde:ClassKDE", options.ClassKDEOptions, role="floor"),
    "class_bootstrap": GeneratorSpec(
        f"{_ROOM}.class_bootstrap:ClassBootstrap", options.ClassBootstrapOptions, role="floor"
    ),
    "vae": GeneratorSpec(f"{_ROOM}.vae:VAE", options.VAEOptions, full=(*PAPER, DIRECT)),
    "wgan_gp": GeneratorSpec(f"{_ROOM}.wgan_gp:WGANGP", options.WGANGPOptions, full=(*PAPER, DIRECT)),
    "flow_matching": GeneratorSpec(
        f"{_ROOM}.diffusion.model:FlowMatching", options.FlowMatchingOptions, white_box=True
    ),
    "ddpm": _DDPM,
    "ddim": replace(_DDPM, standard=(*STANDARD, "ols", "mlp"), full=(*PAPER, DIRECT)),
}


def model_name(generator: str) -> str:
    """The trained model behind a generator: its parameters, its folder."""
    return GENERATORS[generator].model or generator


def trained_models() -> dict[str, GeneratorSpec]:
    """Every model that is fitted, once, by its name; of several generators that share it the first one's line."""
    found: dict[str, GeneratorSpec] = {}
    for name, spec in GENERATORS.items():
        found.setdefault(model_name(name), spec)
    return found


def load_generator(folder: Path) -> Generator:
    """Load whichever registered generator ``folder`` holds.

    Raises:
        ArtefactError: if it holds no registered generator.
    """
    name = read_description(folder).get("name")
    for spec in GENERATORS.values():
        if (cls := spec.load_class()).name == name:
            return cls.load(folder)
    raise ArtefactError(f"{folder} holds {name!r}; registered generators are {sorted(trained_models())}.")
