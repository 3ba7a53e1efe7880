"""Several trainings of one model: fitted one by one, found again after an interruption, drawn from together."""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion import __version__
from transcriptome_diffusion.artefacts import ArtefactError, read_description, replaced_when_whole
from transcriptome_diffusion.checkpoints import TrainingDivergedError, checkpoints_in
from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.registry import load_generator

logger = logging.getLogger(__name__)

#: between the seeds of two runs; a training uses a few seeds next to its own
SEED_STEP = 1000
#: beside the folders of trainings, what is kept of one that diverged
FAILURE = "diverged_{}.json"
#: what a model may be trained on: the landmark genes, or all genes at once
SPACES = ("landmarks", "transcriptome")


class Runs(Sequence[Generator]):
    """The trainings in a folder, in order; each is read when it is asked for, so that only one fills memory.

    A command with fewer runs than an earlier one uses the first; the others stay, for a command that resumes.
    """

    def __init__(self, folder: Path) -> None:
        found = [path for path in Path(folder).glob("run_*") if re.fullmatch(r"run_[1-9]\d*", path.name)]
        self._kept = sorted(found, key=lambda path: int(path.name.removeprefix("run_")))
        runs = None
        if self._kept:
            # a broken description shows when that model is read
            with suppress(ArtefactError):
                runs = read_description(self._kept[0]).get("record", {}).get("runs")
        self.folders = self._kept[:runs]
        #: records of the trainings that diverged
        self.failures = [
            json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob(FAILURE.format("*"))
        ]
        last = max((failure["runs"] for failure in self.failures), default=0) if runs is None else runs
        self.failures = sorted((f for f in self.failures if f["run"] <= last), key=lambda failure: failure["run"])

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

    @property
    def why(self) -> str:
        """Why trainings are missing that diverged; empty where none did."""
        return "; ".join(dict.fromkeys(record["stopped"] for record in self.failures))

    @property
    def tried(self) -> int:
        """Trainings that are there, and those that diverged."""
        return len(self) + len(self.failures)

    def records(self) -> list[dict[str, Any]]:
        """What happened in every training, without reading its weights; those that diverged come last."""
        return [*(read_description(folder)["record"] for folder in self.folders), *self.failures]

    def find(self, fingerprint: str) -> Generator | None:
        """The finished training with this fingerprint, if there is one; broken folders count as none."""
        for folder in self._kept:
            try:
                if read_description(folder).get("record", {}).get("fingerprint") == fingerprint:
                    return load_generator(folder)
            except ArtefactError as error:
                logger.warning("%s; that run is trained again.", error)
        return None


class TrainedModel:
    """All trainings of one model in a folder.

    Attributes:
        landmarks: those on the landmark genes.
        transcriptome: those on all genes; empty where the model has none.
    """

    def __init__(self, folder: Path) -> None:
        self.landmarks, self.transcriptome = (Runs(space_folder(folder, space)) for space in SPACES)

    @property
    def complete(self) -> bool:
        """Whether every training that the last command asked for is there."""
        wanted = next((record for record in self.landmarks.records() if record), {})
        spaces = wanted.get("spaces", SPACES[:1])
        return bool(wanted) and all(getattr(self, space).tried >= wanted.get("runs", 1) for space in spaces)


def space_folder(folder: Path, space: str) -> Path:
    """Where the trainings of one space lie in a model's folder."""
    return Path(folder) if space == "landmarks" else Path(folder) / space


@dataclass(frozen=True)
class Training:
    """One training that is due; ``save`` does it, unless it is there already.

    Attributes:
        cls, train, validation, options: as ``Generator.fit`` takes them, with the seed of this run.
        space: of ``SPACES``, what it is trained on. spaces: all that the model is trained on.
        run: 1, 2, ... of ``runs``.
        resume: whether a finished training with the same fingerprint is taken as it is.
    """

    cls: type[Generator]
    train: ad.AnnData
    validation: ad.AnnData
    options: Any
    space: str
    spaces: tuple[str, ...]
    run: int
    runs: int
    resume: bool

    def save(self, folder: Path) -> None:
        """Fit the model and write it to ``run_<run>`` below the model's folder, whole or not at all.

        A long training goes on from its last checkpoint, if its process was killed. Of one that diverges the reason is
        kept instead, so that other generators are trained and compared nevertheless.
        """
        folder = space_folder(folder, self.space) / f"run_{self.run}"
        mark = fingerprint(self.train, self.validation, self.options)
        model = Runs(folder.parent).find(mark) if self.resume else None
        failure = folder.with_name(FAILURE.format(self.run))
        failure.unlink(missing_ok=True)
        what = f"{self.cls.name} on {self.space}: run {self.run} of {self.runs}"
        with checkpoints_in(
            folder.with_name(f".{folder.name}-checkpoints"), options=self.options.model_dump(mode="json")
        ):
            if model is not None:
                logger.info("%s was finished before and is taken as it is", what)
            else:
                logger.info("%s", what)
                try:
                    model = self.cls.fit(self.train, self.validation, self.options)
                except TrainingDivergedError as error:
                    logger.error("%s is left out: %s", what, error)
                    if folder.exists():
                        shutil.rmtree(folder)
                    found = {"curve": [], "stopped": str(error), "run": self.run, "runs": self.runs}
                    found["spaces"] = list(self.spaces)
                    with replaced_when_whole(failure) as staging:
                        staging.write_text(json.dumps(found), encoding="utf-8")
                    return
            model.record |= {"run": self.run, "runs": self.runs, "spaces": list(self.spaces), "fingerprint": mark}
            model.record |= training_facts(model, self.train)
            model.save(folder)


def training_facts(model: Generator, train: ad.AnnData) -> dict[str, Any]:
    """What a model's record says of its training profiles.

    Returns:
        ``training_labels``, how many profiles have each combination of conditions, ``[["lung", 100], ...]``; and
        ``cohort`` with the number of donors and the studies, as far as they are known.
    """
    counts = train.obs[list(model.conditions.names)].astype(str).value_counts(sort=False).sort_index()
    cohort: dict[str, Any] = {"donors": int(train.obs["donor"].nunique())} if "donor" in train.obs else {}
    if "study" in train.obs:
        cohort["studies"] = sorted(train.obs["study"].astype(str).unique())
    return {"training_labels": [[*labels, count] for labels, count in counts.to_dict().items()], "cohort": cohort}


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
    data: dict[str, tuple[ad.AnnData, ad.AnnData, Any]],
    runs: int,
    resume: bool = False,
) -> Iterator[Training]:
    """The trainings of one model, each with a seed of its own.

    The first run has the seed of the options, so that one run alone is the first of many.

    Args:
        data: by space, training profiles, validation profiles and options.
        runs: how many of each, 1 or more.

    Raises:
        ValueError: if ``runs`` is not a positive whole number.
    """
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise ValueError(f"`runs` is {runs!r}; expected the number of trainings per generator, 1 or more.")
    for space, (train, validation, options) in data.items():
        for run in range(1, runs + 1):
            chosen = options.model_copy(update={"seed": options.seed + SEED_STEP * (run - 1)})
            yield Training(cls, train, validation, chosen, space, tuple(data), run, runs, resume)


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
