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


#: every name under which synthetic landmark profiles reach reconstruction and evaluation
GENERATOR_NAMES: tuple[str, ...] = (*BASELINES, *SAMPLERS)

#: generators that also learn all genes at once, without landmarks, under the names of their landmark siblings; of the
#: denoiser's samplers the one that was nearer to validation donors there
DIRECT: dict[str, Entry] = {name: BASELINES[name] for name in ("class_gaussian", "vae", "wgan_gp")} | {"ddim": DENOISER}

#: what is trained step by step, by the name of its parameters
TRAINED: tuple[str, ...] = (
    *(name for name, entry in BASELINES.items() if is_trained(entry)),
    "denoiser",
    *(f"direct_{name}" for name, entry in DIRECT.items() if is_trained(entry) and entry is not DENOISER),
    "direct_denoiser",
)

#: the generators of Lacan et al., whose landmarks are rebuilt by the paper's two reconstructors as well
PAPER: tuple[str, ...] = ("vae", "wgan_gp", *SAMPLERS)

#: from landmarks to whole transcriptomes; ``ols`` and ``mlp`` are the paper's
RECONSTRUCTORS: tuple[str, ...] = ("ridge", "ols", "mlp")

#: every (generator, way) to synthetic transcriptomes; ``_noise`` adds residuals to what is rebuilt
TRANSCRIPTOMES: tuple[tuple[str, str], ...] = (
    *((name, way) for name in GENERATOR_NAMES for way in ("ridge", "ridge_noise")),
    *((name, way) for name in PAPER for way in ("ols", "mlp", "mlp_noise")),
    *((name, "direct") for name in DIRECT),
)


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
