"""Which cohorts can be read. To add one: write its reader, name it here with its options.

Readers are named by path, so that a run imports only the one it uses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from transcriptome_diffusion.cohorts.options import (
    ARCHS4Options,
    GTExOptions,
    OwnOptions,
    RNAseqDBOptions,
    SimulationOptions,
    TCGAOptions,
    ToilOptions,
)
from transcriptome_diffusion.options import Options

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Reader:
    """Where a reader lives, which options it takes, and whether it reads from a path."""

    function: str
    options: type[BaseModel]
    needs_path: bool = True


READERS: dict[str, Reader] = {
    "rnaseqdb": Reader("transcriptome_diffusion.cohorts.rnaseqdb:read_rnaseqdb", RNAseqDBOptions),
    "gtex": Reader("transcriptome_diffusion.cohorts.gtex:read_gtex", GTExOptions),
    "tcga": Reader("transcriptome_diffusion.cohorts.tcga:read_tcga", TCGAOptions),
    "toil": Reader("transcriptome_diffusion.cohorts.toil:read_toil", ToilOptions),
    "archs4": Reader("transcriptome_diffusion.cohorts.archs4:read_archs4", ARCHS4Options),
    "own": Reader("transcriptome_diffusion.cohorts.own:read_own", OwnOptions),
    "simulated": Reader(
        "transcriptome_diffusion.cohorts.simulated:read_simulated",
        SimulationOptions,
        needs_path=False,
    ),
    "simulated_oracle": Reader(
        "transcriptome_diffusion.cohorts.simulated:read_oracle",
        SimulationOptions,
        needs_path=False,
    ),
    "none": Reader("transcriptome_diffusion.cohorts.readers:no_cohort", Options, needs_path=False),
}


def no_cohort(options: Options) -> AnnData:
    """A cohort without samples and genes, for catalog entries that a cohort cannot fill, such as its oracle."""
    import anndata as ad

    return ad.AnnData()


def read_cohort(name: str, path: str | Path | None, options: Mapping[str, Any] | None = None) -> AnnData:
    """Read a cohort with the reader ``name``.

    Args:
        name: a key of ``READERS``.
        path: the folder or file the reader reads; None for simulated cohorts.
        options: the reader's options as plain values.

    Returns:
        Linear profiles (n_samples, n_genes): ``uns["unit"]`` such as ``FPKM``; NaN where a value was not measured;
        ``obs`` with ``donor``, ``study``, ``sample_type`` (``tumor`` or ``normal``, where it is known), the columns
        that may serve as class label (the usual one also as ``tissue``) and further covariates; ``var`` with
        ``symbol``, ``entrez_id`` and ``ensembl_id`` ("" where unknown) and ``is_landmark`` (false until matched).

    Raises:
        ValueError: if the reader is unknown, a path is missing, or an option is unknown or impossible.
    """
    if name not in READERS:
        raise ValueError(f"no cohort reader is called {name!r}; the known ones are {sorted(READERS)}.")
    reader = READERS[name]
    settings = reader.options.model_validate(dict(options or {}))
    module, _, function = reader.function.partition(":")
    read = getattr(import_module(module), function)
    if not reader.needs_path:
        return read(settings)
    if path is None:
        raise ValueError(f"the cohort reader {name!r} needs a path; set `filepath` of the cohort in the catalog.")
    return read(Path(path), settings)
