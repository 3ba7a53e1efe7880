"""Which generators exist. To add one: write its class, name it here, and give it a block in the parameters.

Classes are named by path, so that listing them imports neither torch nor anndata.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from transcriptome_diffusion import parameters
from transcriptome_diffusion.artefacts import ArtefactError, read_description

if TYPE_CHECKING:
    from transcriptome_diffusion.generators.base import Generator


@dataclass(frozen=True)
class Entry:
    """Where a generator's class lives and which options it takes."""

    path: str
    options: type[BaseModel]


#: generators of the baselines pipeline: each is fitted, saved and sampled from one template
BASELINES: dict[str, Entry] = {
    "class_gaussian": Entry(
        "transcriptome_diffusion.generators.class_gaussian:ClassGaussian", parameters.ClassGaussianOptions
    ),
    "class_kde": Entry("transcriptome_diffusion.generators.class_kde:ClassKDE", parameters.ClassKDEOptions),
    "vae": Entry("transcriptome_diffusion.generators.vae:VAE", parameters.VAEOptions),
    "wgan_gp": Entry("transcriptome_diffusion.generators.wgan_gp:WGANGP", parameters.WGANGPOptions),
    "flow_matching": Entry(
        "transcriptome_diffusion.generators.diffusion.model:FlowMatching", parameters.FlowMatchingOptions
    ),
}

#: the one denoiser; its samplers appear on the scorecard under their own names
DENOISER = Entry("transcriptome_diffusion.generators.diffusion.model:Diffusion", parameters.DiffusionOptions)
SAMPLERS: tuple[str, ...] = ("ddpm", "ddim")


def is_trained(entry: Entry) -> bool:
    """Whether a generator is trained step by step, so that it has a curve."""
    return "training" in entry.options.model_fields


#: what is trained step by step
TRAINED: tuple[str, ...] = (*(name for name, entry in BASELINES.items() if is_trained(entry)), "denoiser")

#: every name under which synthetic profiles reach reconstruction and evaluation
GENERATOR_NAMES: tuple[str, ...] = (*BASELINES, *SAMPLERS)


def generator_class(entry: Entry) -> type[Generator]:
    """Import the class an entry names."""
    module, _, name = entry.path.partition(":")
    return getattr(import_module(module), name)


def load_generator(folder: Path) -> Generator:
    """Load whichever registered generator ``folder`` holds.

    Raises:
        ArtefactError: if it holds no registered generator.
    """
    name = read_description(folder).get("name")
    known = {**BASELINES, "diffusion": DENOISER}
    if name not in known:
        raise ArtefactError(f"{folder} holds {name!r}; registered generators are {sorted(known)}.")
    return generator_class(known[name]).load(folder)
