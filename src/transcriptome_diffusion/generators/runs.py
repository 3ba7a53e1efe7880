"""Several trainings of one generator: fitted one by one, found again after an interruption, drawn from together."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, overload

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion import __version__
from transcriptome_diffusion.artefacts import ArtefactError, read_description
from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.registry import load_generator

logger = logging.getLogger(__name__)

#: between the seeds of two runs; a training uses a few seeds next to its own
SEED_STEP = 1000


def run_folder(folder: Path, run: int) -> Path:
    """Where run 1, 2, ... of a generator lies."""
    return Path(folder) / f"run_{run}"


class Runs(Sequence[Generator]):
    """The trainings in a folder, in order; each is read when it is asked for, so that only one fills memory.

    A command with fewer runs than an earlier one uses the first; the others stay, for a command that resumes.
    """

    def __init__(self, folder: Path) -> None:
        found = [path for path in Path(folder).glob("run_*") if re.fullmatch(r"run_[1-9]\d*", path.name)]
        self._kept = sorted(found, key=lambda path: int(path.name.removeprefix("run_")))
        self.folders = self._kept
        if self._kept:
            # a broken description shows when that model is read
            with suppress(ArtefactError):
                record = read_description(self._kept[0]).get("record", {})
                self.folders = self._kept[: record.get("runs")]

    def __len__(self) -> int:
        return len(self.folders)

    @overload
    def __getitem__(self, index: int) -> Generator: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Generator]: ...
    def __getitem__(self, index: int | slice) -> Generator | Sequence[Generator]:
        if isinstance(index, slice):
            return [load_generator(folder) for folder in self.folders[index]]
        return load_generator(self.folders[index])

    def records(self) -> list[dict[str, Any]]:
        """What happened in every training, without reading its weights."""
        return [read_description(folder)["record"] for folder in self.folders]

    def find(self, fingerprint: str) -> Generator | None:
        """The finished training with this fingerprint, if there is one; broken folders count as none."""
        for folder in self._kept:
            try:
                if read_description(folder).get("record", {}).get("fingerprint") == fingerprint:
                    return load_generator(folder)
            except ArtefactError as error:
                logger.warning("%s; that run is trained again.", error)
        return None


def fingerprint(train: ad.AnnData, validation: ad.AnnData, options: Any) -> str:
    """Digest of all that decides a training: profiles, sample tables, settings with their seed, our version."""
    digest = hashlib.sha256(json.dumps([__version__, options.model_dump(mode="json")]).encode())
    for profiles in (train, validation):
        digest.update(np.ascontiguousarray(dense(profiles)).tobytes())
        for table in (profiles.obs, profiles.var):
            digest.update(table.astype(str).to_csv().encode())
        digest.update(str(profiles.uns.get("unit")).encode())
    return digest.hexdigest()[:16]


def trainings(
    cls: type[Generator],
    train: ad.AnnData,
    validation: ad.AnnData,
    options: Any,
    runs: int,
    finished: Runs | None = None,
) -> Iterator[Generator]:
    """Fit ``cls`` ``runs`` times, each with a seed of its own; yields every model as soon as it is there.

    The first run has the seed of ``options``, so that one run alone is the first of many.

    Args:
        train, validation: as ``Generator.fit`` takes them.
        options: of the generator.
        runs: how many, 1 or more.
        finished: trainings that are already there; those with the same fingerprint are not repeated.

    Raises:
        ValueError: if ``runs`` is not a positive whole number.
    """
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise ValueError(f"`runs` is {runs!r}; expected the number of trainings per generator, 1 or more.")
    for run in range(1, runs + 1):
        chosen = options.model_copy(update={"seed": options.seed + SEED_STEP * (run - 1)})
        mark = fingerprint(train, validation, chosen)
        model = finished.find(mark) if finished is not None else None
        if model is not None:
            logger.info("%s: run %d of %d was finished before and is taken as it is", cls.name, run, runs)
        else:
            if runs > 1:
                logger.info("%s: run %d of %d", cls.name, run, runs)
            model = cls.fit(train, validation, chosen)
        model.record |= {"run": run, "runs": runs, "fingerprint": mark}
        yield model


def draw_runs(models: Sequence[Generator], labels: pd.DataFrame, seed: int, batch_size: int, **how: Any) -> ad.AnnData:
    """One profile per row of ``labels`` from every run, run after run, each with a seed of its own.

    Returns:
        (n_runs x n, n_genes); ``obs["run"]`` counts from 1.
    """
    parts = []
    for index, model in enumerate(models):
        part = model.sample(labels, seed=seed + SEED_STEP * index, batch_size=batch_size, **how)
        part.obs.insert(len(part.obs.columns), "run", index + 1)
        part.obs_names = [f"{name}-run{index + 1}" for name in part.obs_names]
        parts.append(part)
    first = parts[0]
    provenance = {**first.uns["generator"], "seed": seed, "runs": len(parts)}
    values = np.concatenate([dense(part) for part in parts]) if len(parts) > 1 else dense(first)
    return make_profiles(values, pd.concat([p.obs for p in parts]), first.var, first.uns["unit"], provenance)
