"""Which reconstructors exist: one line each. To add one, write its class, name it here, give it a parameter block.

Classes are named by path, so that listing them imports neither torch nor anndata.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transcriptome_diffusion.artefacts import ArtefactError, read_description
from transcriptome_diffusion.reconstruction.options import MLPOptions, OLSOptions, ReconstructorOptions, RidgeOptions

if TYPE_CHECKING:
    from anndata import AnnData

    from transcriptome_diffusion.reconstruction.base import Reconstructor
    from transcriptome_diffusion.reconstruction.ridge import Spectrum

#: what follows the name of a reconstructor on the scorecard where residual noise is added
NOISE = "_noise"


@dataclass(frozen=True)
class ReconstructorSpec:
    """One line of the table.

    Attributes:
        path: ``module:Class``.
        options: the model of its block of parameters, ``reconstruction_{name}``.
    """

    path: str
    options: type[ReconstructorOptions]

    def load_class(self) -> type[Reconstructor]:
        """Import the class."""
        module, _, name = self.path.partition(":")
        return getattr(import_module(f"transcriptome_diffusion.reconstruction.{module}"), name)


#: every reconstructor by its name, which its saved models bear as well
RECONSTRUCTORS: dict[str, ReconstructorSpec] = {
    "ridge": ReconstructorSpec("linear:RidgeReconstructor", RidgeOptions),
    "ols": ReconstructorSpec("linear:OLSReconstructor", OLSOptions),
    "mlp": ReconstructorSpec("mlp:MLPReconstructor", MLPOptions),
}


def fit_reconstructor(
    name: str,
    landmarks_train: AnnData,
    expression_train: AnnData,
    landmarks_validation: AnnData,
    expression_validation: AnnData,
    options: ReconstructorOptions | Mapping[str, Any],
    spectrum: Spectrum | None = None,
) -> Reconstructor:
    """Fit the reconstructor ``name``; see ``Reconstructor.fit``.

    Args:
        options: its options, or its block of parameters.
        spectrum: ``decompose_landmarks(landmarks_train)`` where several reconstructors are fitted one after another.

    Raises:
        ValueError: if there is no such reconstructor, or options or profiles do not fit.
    """
    spec = RECONSTRUCTORS[reconstructor_of(name)[0]]
    return spec.load_class().fit(
        landmarks_train,
        expression_train,
        landmarks_validation,
        expression_validation,
        spec.options.model_validate(options),
        spectrum,
    )


def reconstructor_of(name: str) -> tuple[str, bool]:
    """The reconstructor behind a name on the scorecard, and whether residual noise is added: ``ridge_noise``.

    Raises:
        ValueError: if there is no such reconstructor.
    """
    model = name.removesuffix(NOISE)
    if model not in RECONSTRUCTORS:
        raise ValueError(
            f"unknown reconstructor {name!r}; expected one of {list(RECONSTRUCTORS)}, with {NOISE!r} behind it for "
            "residual noise."
        )
    return model, name != model


def reconstruct(name: str, reconstructors: Mapping[str, Reconstructor], profiles: AnnData, seed: int) -> AnnData:
    """Whole transcriptomes (n, n_genes) for landmark profiles (n, n_landmarks), as the scorecard names them.

    Args:
        name: of a fitted reconstructor, with ``_noise`` behind it for residual noise: ``ridge``, ``mlp_noise``.
        reconstructors: the fitted ones by their names.
        seed: of the noise, where there is any.

    Raises:
        ValueError: if the reconstructor is unknown or not among ``reconstructors``, or profiles do not fit.
    """
    model, noisy = reconstructor_of(name)
    if model not in reconstructors:
        raise ValueError(f"reconstruction {name!r} needs reconstructor {model!r}, found {sorted(reconstructors)}.")
    return reconstructors[model].reconstruct(profiles, noise_seed=seed if noisy else None)


def load_reconstructor(folder: Path) -> Reconstructor:
    """Load whichever reconstructor ``folder`` holds.

    Raises:
        ArtefactError: if it holds no known reconstructor.
    """
    name = read_description(folder).get("name")
    if name not in RECONSTRUCTORS:
        raise ArtefactError(f"{folder} holds {name!r}; known reconstructors are {sorted(RECONSTRUCTORS)}.")
    return RECONSTRUCTORS[name].load_class().load(folder)
