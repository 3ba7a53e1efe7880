"""Profiles on request: which labels, how many, from which model, into which file.

A hundred thousand profiles are drawn, reconstructed and written a chunk at a time, in constant memory.
"""

from __future__ import annotations

import gzip
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.artefacts import DESCRIPTION_FILE, ArtefactError, read_description, replaced_when_whole
from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.expression.units import COUNTS, to_linear
from transcriptome_diffusion.generators.base import Generator
from transcriptome_diffusion.generators.label_table import label_table
from transcriptome_diffusion.generators.options import GenerationOptions
from transcriptome_diffusion.generators.registry import GENERATORS, model_name
from transcriptome_diffusion.generators.registry import load_generator as load_folder

if TYPE_CHECKING:
    import h5py

    from transcriptome_diffusion.counts import CountModel
    from transcriptome_diffusion.reconstruction.base import Reconstructor

logger = logging.getLogger(__name__)

#: profiles drawn and written at a time
CHUNK = 2048
FORMATS = (".h5ad", ".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet", ".gct", ".gct.gz")
SCALES = ("log2", "linear")
#: ways to all genes, beside the reconstructors: landmarks as they are, or a model of all genes
LANDMARKS, DIRECT = "none", "direct"

Progress = Callable[[int], None]


def load_generator(folder: str | Path, transcriptome: bool = False, run: int = 1) -> Generator:
    """Load a trained generator.

    Args:
        folder: of a training (with ``model.json``), or of all trainings of a model.
        transcriptome: of all trainings, one on all genes.
        run: of all trainings, which one; they are counted from 1.

    Raises:
        ArtefactError: if there is no such generator.
    """
    folder = Path(folder)
    if (folder / DESCRIPTION_FILE).exists():
        return load_folder(folder)
    parent = folder / "transcriptome" if transcriptome else folder
    if (parent / f"run_{run}").exists():
        return load_folder(parent / f"run_{run}")
    if trained := sorted(path.name for path in parent.glob("run_*")):
        raise ArtefactError(f"{parent} has no run_{run}; it has {', '.join(trained)}.")
    hint = ""
    if transcriptome and (folder / "run_1").exists():
        hint = " This model was not trained on all genes."
    elif folder.name in GENERATORS and model_name(folder.name) != folder.name:
        hint = f" {folder.name} is a sampler of the model {folder.parent / model_name(folder.name)}."
    raise ArtefactError(
        f"no trained generator at {folder}: expected a folder with {DESCRIPTION_FILE}, or with run_1 in it, "
        f"such as data/06_models/vae.{hint}"
    )


def reconstructors_of(folder: Path, model: Generator, transcriptome: str) -> Path:
    """Where a run leaves the reconstructors that go with the ``model`` in ``folder``: beside all its trainings.

    Raises:
        ValueError: if they would give away what the model's privacy dial keeps back.
    """
    dial = model.record.get("privacy", {}).get("dial", "none")
    if dial != "none" and transcriptome not in (LANDMARKS, DIRECT):
        raise ValueError(
            f"the model was fitted with `privacy.dial: {dial}`, and the reconstructors of a run learn from the cohort "
            "without it. Draw landmark genes alone, or name the folder of reconstructors that were trained on a public "
            "cohort."
        )
    folder = folder.resolve()
    return (folder.parent if (folder / DESCRIPTION_FILE).exists() else folder).with_name("reconstructors")


def chunk_seed(seed: int, chunk: int) -> int:
    """The seed of a chunk; that of the first is ``seed`` itself, so that few profiles are those of ``sample``."""
    return seed if not chunk else int(np.random.SeedSequence([seed, chunk]).generate_state(1)[0])


def draw(
    model: Generator,
    labels: pd.DataFrame,
    seed: int,
    *,
    reconstructor: Reconstructor | None = None,
    noise: bool = True,
    counts: CountModel | None = None,
    chunk: int = CHUNK,
    progress: Progress | None = None,
    **how: Any,
) -> Iterator[ad.AnnData]:
    """Profiles for ``labels``, ``chunk`` at a time.

    Args:
        labels: as ``label_table`` makes it. seed: the same seed and chunk give the same profiles.
        reconstructor: makes all genes from landmarks; ``noise`` adds residuals as held-out donors have them.
        counts: draws read counts around the profiles.
        progress: called with the number of profiles of a chunk when it is done.
        how: further arguments of the model's ``sample``, such as ``sampler``.
    """
    for number, start in enumerate(range(0, len(labels), chunk)):
        part_seed = chunk_seed(seed, number)
        part = model.sample(labels.iloc[start : start + chunk], seed=part_seed, **how)
        if reconstructor is not None:
            part = reconstructor.reconstruct(part, noise_seed=part_seed if noise else None)
        if counts is not None:
            part = counts.draw(part, part_seed)
        part.obs_names = [f"synthetic-{start + i}" for i in range(part.n_obs)]
        yield part
        if progress is not None:
            progress(part.n_obs)


def write(chunks: Iterable[ad.AnnData], path: str | Path, labels: pd.DataFrame, scale: str = "log2") -> Path:
    """Write profiles as they are drawn; the file appears under its name when it is whole.

    Args:
        chunks: of profiles in log2(x + 1), in the order of ``labels``.
        path: its ending says the format, one of ``FORMATS``. Tables have a row per profile: its name, its labels, its
            genes.
        scale: ``log2`` leaves values as they are; ``linear`` undoes the logarithm.

    Raises:
        ValueError: if the ending or the scale is unknown.
    """
    path = Path(path)
    ending = next((form for form in sorted(FORMATS, key=len, reverse=True) if path.name.lower().endswith(form)), None)
    if ending is None:
        raise ValueError(f"{path} ends in none of {', '.join(FORMATS)}; the ending says which format is written.")
    if scale not in SCALES:
        raise ValueError(f"the scale is {scale!r}; expected one of {', '.join(SCALES)}.")
    scaled = (to_linear(part) if scale == "linear" else part for part in chunks)
    with replaced_when_whole(path) as staging:
        if ending == ".h5ad":
            _write_h5ad(scaled, staging, len(labels))
        elif ending.startswith(".gct"):
            _write_gct(scaled, staging, len(labels))
        elif ending == ".parquet":
            _write_parquet(scaled, staging)
        else:
            _write_text(scaled, staging)
    return path


def sampler_of(model: Generator, changes: Mapping[str, Any], steps: int | None = None) -> Any:
    """The sampler of a model's settings with ``changes``, such as another ``name``, and another number of steps.

    Raises:
        ValueError: if the model has no sampler, or the sampler has no such setting.
    """
    options: Any = type(model).options.model_validate(model.settings) if "sampler" in model.settings else None  # type: ignore[attr-defined]
    if options is None:
        raise ValueError(f"{model.name} draws in one pass; it has no sampler to choose.")
    settings = {**options.sampler.model_dump(), **changes}
    if steps is not None:
        settings["steps" if "steps" in settings else "intervals"] = steps
    return type(options.sampler).model_validate(settings)


def reconstruction(name: str, folder: Path) -> dict[str, Any]:
    """The arguments of ``draw`` for a reconstructor by name, ``ridge`` or ``ridge_noise``, in the folder of all.

    Raises:
        ValueError: if there is none of that name.
    """
    from transcriptome_diffusion.reconstruction.registry import load_reconstructor

    base = name.removesuffix("_noise")
    if not (folder / base).is_dir():
        known = sorted(path.name for path in folder.glob("*") if path.is_dir()) or "none"
        raise ValueError(f"no reconstructor {base!r} in {folder}, where there are {known}; name the folder of another.")
    return {"reconstructor": load_reconstructor(folder / base), "noise": name.endswith("_noise")}


def all_genes_and_counts(
    model: Generator,
    transcriptome: str,
    reconstructors: Path,
    scale: str,
    counts_of: str | Path | None,
    library_size: int | None = None,
) -> tuple[str, dict[str, Any]]:
    """The scale of the file, and the arguments of ``draw`` that make all genes and read counts.

    Args:
        transcriptome: ``none``, ``direct`` or the name of a reconstructor in the folder ``reconstructors``.
        scale: as ``write`` takes it, or ``counts`` as in the training profiles of the file ``counts_of``, with
            ``library_size`` reads in every sample where that is stated.

    Raises:
        ValueError: if there is no such reconstructor, or no counts. FileNotFoundError: if there is no such file.
    """
    how = {} if transcriptome in (LANDMARKS, DIRECT) else reconstruction(transcriptome, reconstructors)
    if scale == "counts":
        return "log2", how | {"counts": counts_like(counts_of, model, library_size)}
    return scale, how


@dataclass(frozen=True, eq=False)
class Request:
    """Profiles that are due; ``write`` draws them.

    Attributes:
        model: what draws them. labels: a row per profile. seed: of all randomness.
        scale: as ``write`` takes it. how: further arguments of ``draw``.
    """

    model: Generator
    labels: pd.DataFrame
    seed: int = 0
    scale: str = "log2"
    how: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: str | Path) -> Path:
        """Draw the profiles into the file ``path``; a terminal shows how far it is."""
        from tqdm.auto import tqdm

        with tqdm(total=len(self.labels), unit="profile", disable=not sys.stderr.isatty(), leave=False) as bar:
            chunks = draw(self.model, self.labels, self.seed, progress=bar.update, **self.how)
            return write(chunks, path, self.labels, self.scale)


def request(folder: Path, options: GenerationOptions, samplers: Mapping[str, Any] | None = None) -> tuple[str, Request]:
    """What a generator is asked for by its name on the scorecard.

    Args:
        folder: of all trained models, ``data/06_models``.
        samplers: settings of the samplers by generator, where several generators share a model.

    Returns:
        The name of the file, ``ddim.h5ad``, and the request.

    Raises:
        ValueError: if the generator, a label or a setting is unknown.
        ArtefactError: if the model has not been trained.
    """
    name = options.generator
    if name not in GENERATORS:
        raise ValueError(f"`generation.generator` is {name!r}; expected one of {list(GENERATORS)}.")
    direct = options.transcriptome == DIRECT
    model = load_generator(folder / model_name(name), direct, options.run)
    labels = label_table(model, options.profiles, options.total)
    how: dict[str, Any] = {}
    if GENERATORS[name].sampler or options.steps or options.sampler:
        settings = (samplers or {}).get(name, {"name": name} if GENERATORS[name].sampler else {})
        how["sampler"] = sampler_of(model, {**settings, **options.sampler}, options.steps)
    scale, more = all_genes_and_counts(
        model,
        options.transcriptome,
        folder / "reconstructors",
        options.scale,
        options.counts_of,
        options.library_size,
    )
    return f"{name}.{options.format}", Request(model, labels, options.seed, scale, how | more)


def counts_like(path: str | Path | None, model: Generator, library_size: int | None = None) -> CountModel:
    """How counts are drawn around profiles of ``model``, from the training profiles in the h5ad file ``path``.

    Raises:
        ValueError: if no file is named, or there are neither counts nor a library size.
        FileNotFoundError: if there is no such file.
    """
    from transcriptome_diffusion.counts import CountModel

    if path is None:
        raise ValueError("read counts are drawn as in the training profiles: name their file (--counts-of).")
    return CountModel.fit(ad.read_h5ad(path), model.conditions.names, library_size)


def _store(chunks: Iterable[ad.AnnData], store: h5py.File, rows: int) -> ad.AnnData:
    """Put the values of all chunks into ``store["X"]`` (rows, n_genes); returns their tables without values."""
    tables: list[pd.DataFrame] = []
    start, var, uns = 0, pd.DataFrame(), {}
    for part in chunks:
        if not tables:
            var, uns = part.var, part.uns
            values = store.create_dataset(
                "X", (rows, part.n_vars), np.float32, chunks=(min(rows, 64), min(part.n_vars, 1024)), compression="lzf"
            )
            values.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
        values[start : start + part.n_obs] = dense(part)
        start += part.n_obs
        tables.append(part.obs)
    return ad.AnnData(obs=pd.concat(tables), var=var, uns=uns)


def _write_h5ad(chunks: Iterable[ad.AnnData], path: Path, rows: int) -> None:
    import h5py

    stored = path.with_name("values.h5")
    with h5py.File(stored, "w") as store:
        _store(chunks, store, rows).write_h5ad(path)
        with h5py.File(path, "r+") as written:
            written.pop("X", None)
            store.copy("X", written)
    stored.unlink()


def _write_gct(chunks: Iterable[ad.AnnData], path: Path, rows: int) -> None:
    """GCT 1.2: a row per gene, a column per profile; labels do not fit into it."""
    import h5py

    stored = path.with_name("values.h5")
    open_text = gzip.open if path.suffix == ".gz" else open
    with h5py.File(stored, "w") as store, open_text(path, "wt", encoding="utf-8") as file:
        tables = _store(chunks, store, rows)
        names = [f"{name} {label}" for name, label in zip(tables.obs_names, tables.obs.iloc[:, 0], strict=True)]
        file.write(f"#1.2\n{tables.n_vars}\t{rows}\nName\tDescription\t" + "\t".join(names) + "\n")
        form = ".0f" if tables.uns.get("unit") == COUNTS else ".6g"
        symbols = tables.var.get("symbol", tables.var_names.to_series()).astype(str).tolist()
        for start in range(0, tables.n_vars, 256):
            block = store["X"][:, start : start + 256].T
            for gene, symbol, row in zip(tables.var_names[start:], symbols[start:], block, strict=False):
                file.write(f"{gene}\t{symbol}\t" + "\t".join(f"{value:{form}}" for value in row) + "\n")
    stored.unlink()


def _write_text(chunks: Iterable[ad.AnnData], path: Path) -> None:
    separator = "\t" if ".tsv" in path.suffixes else ","
    for number, part in enumerate(chunks):
        first = number == 0
        _as_table(part).to_csv(path, sep=separator, mode="w" if first else "a", header=first, float_format="%.6g")


def _write_parquet(chunks: Iterable[ad.AnnData], path: Path) -> None:
    import polars as pl

    parts = []
    for number, part in enumerate(chunks):
        parts.append(path.with_name(f"part-{number}.parquet"))
        table = _as_table(part).reset_index()
        # polars takes texts from pandas through pyarrow, which need not be there
        columns = {name: v.to_numpy() if v.dtype.kind in "iuf" else v.tolist() for name, v in table.items()}
        pl.DataFrame(columns).write_parquet(parts[-1])
    pl.scan_parquet(parts).sink_parquet(path)
    for piece in parts:
        piece.unlink()


def _as_table(part: ad.AnnData) -> pd.DataFrame:
    values = part.to_df()
    if part.uns.get("unit") == COUNTS:  # whole, however large
        values = values.astype(np.int64)
    return pd.concat([part.obs, values], axis=1).rename_axis("sample")


def first_training(folder: str | Path) -> Path:
    """The folder of a training, or the first one in the folder of all trainings of a model."""
    folder = Path(folder)
    return folder if (folder / DESCRIPTION_FILE).exists() else folder / "run_1"


def describe(folder: str | Path) -> dict[str, Any]:
    """What a trained model says of itself, without its weights: generator, unit, labels, genes, training.

    Raises:
        ArtefactError: if there is no model.
    """
    found = read_description(first_training(folder))
    record = found.get("record", {})
    return {
        "generator": found.get("name"),
        "unit": found.get("unit"),
        "genes": len(found.get("genes", {}).get("index", [])),
        "labels": found.get("conditions", {}),
        "trained": {
            name: record[name]
            for name in ("steps", "best_step", "seconds", "device", "parameters", "stopped", "run", "runs")
            if name in record
        },
        "settings": found.get("settings", {}),
    }
