"""From landmark genes to the whole transcriptome."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transcriptome_diffusion.artefacts import ArtefactError, read_description

if TYPE_CHECKING:
    from transcriptome_diffusion.reconstruction.base import Reconstructor


def load_reconstructor(folder: Path) -> Reconstructor:
    """Load whichever reconstructor ``folder`` holds.

    Raises:
        ArtefactError: if it holds no known reconstructor.
    """
    from transcriptome_diffusion.reconstruction.linear import LinearReconstructor
    from transcriptome_diffusion.reconstruction.mlp import MLPReconstructor

    known: dict[str, type[Reconstructor]] = {m.name: m for m in (LinearReconstructor, MLPReconstructor)}
    name = read_description(folder).get("name")
    if name not in known:
        raise ArtefactError(f"{folder} holds {name!r}; known reconstructors are {sorted(known)}.")
    return known[name].load(folder)
