"""Kedro dataset types of our own: profiles (.h5ad), fitted models (a folder), and cohorts as published.

Saves are atomic: a run that fails leaves the old file, or none, under the final name. Nothing heavy is imported
before something is loaded or saved, so that listing pipelines stays fast.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NewType

from kedro.io import AbstractDataset, AbstractVersionedDataset, DatasetError
from kedro.io.core import Version

from transcriptome_diffusion.artefacts import read_description, replaced_when_whole
from transcriptome_diffusion.checkpoints import checkpoints_in
from transcriptome_diffusion.storage import Storage, is_remote

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame

logger = logging.getLogger(__name__)

# kedro-viz recognises a preview by the name of its return annotation
TablePreview = NewType("TablePreview", dict)
JSONPreview = NewType("JSONPreview", dict)


class _LocalDataset(AbstractVersionedDataset[Any, Any]):
    """What profile and model datasets share: a local path, optional versions, metadata for kedro-viz."""

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        if is_remote(filepath):
            raise DatasetError(
                f"{filepath}: {type(self).__name__} keeps its files on the local disk. Only profiles "
                "(AnnDataDataset) and cohorts (CohortDataset) may lie elsewhere; set `filepath`, or `data_root`, to a "
                "local folder."
            )
        super().__init__(PurePosixPath(filepath), version, exists_function=os.path.exists)
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}

    def _exists(self) -> bool:
        try:
            return self._path().exists()
        except DatasetError:  # a version was asked for and there is none
            return False

    def _path(self) -> Path:
        return Path(str(self._get_load_path()))

    def _present_path(self) -> Path:
        path = self._path()
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; run the pipeline that makes it first.")
        return path


class AnnDataDataset(_LocalDataset):
    """Profiles in an ``.h5ad`` file: float32, samples x genes, see ``expression.profiles``.

    Values of a local file are mapped, not read: processes share them, pages that nobody uses need no memory, and
    changes stay private.

    Args:
        filepath: on the local disk, or with a protocol of fsspec, such as ``s3://bucket/profiles.h5ad``.
        credentials: of the remote storage, as Kedro's own datasets take them.
        fs_args: further arguments of its fsspec file system.
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._storage = Storage(filepath, credentials, fs_args) if is_remote(filepath) else None
        if self._storage is None:
            super().__init__(filepath=filepath.removeprefix("file://"), version=version, metadata=metadata)
            return
        path = PurePosixPath(self._storage.path)
        AbstractVersionedDataset.__init__(self, path, version, self._storage.exists, self._storage.glob)
        self.metadata = metadata

    def _exists(self) -> bool:
        return super()._exists() if self._storage is None else self._storage.exists(self._get_load_path())

    def _describe(self) -> dict[str, Any]:
        found = super()._describe()
        return found if self._storage is None else found | {"filepath": self._storage.url(self._filepath)}

    @contextmanager
    def _local(self) -> Iterator[Path]:
        """The file, or a copy of a remote one."""
        if self._storage is None:
            yield self._present_path()
        elif not self._storage.exists(path := self._get_load_path()):
            raise FileNotFoundError(f"{self._storage.url(path)} does not exist; run the pipeline that makes it first.")
        else:
            with self._storage.fetched(path) as local:
                yield local

    def load(self) -> AnnData:
        import anndata as ad

        with self._local() as path:
            if self._storage is None and os.name != "nt":  # Windows replaces no file that is mapped
                return _read_mapped(path)
            return ad.read_h5ad(path)

    def save(self, data: AnnData) -> None:
        final = self._get_save_path()
        if self._storage is None:
            with replaced_when_whole(Path(str(final))) as staging:
                _write_to_map(data, staging)
            return
        with tempfile.TemporaryDirectory() as folder:
            data.write_h5ad(local := Path(folder) / final.name, compression="lzf")
            self._storage.put(local, final)

    def preview(self, nrows: int = 5, ncolumns: int = 8) -> TablePreview:
        """The corner of the matrix beside the sample labels; a local file is opened, not read."""
        import anndata as ad
        import pandas as pd

        with self._local() as path:
            backed = ad.read_h5ad(path, backed="r")
            try:
                corner = backed[:nrows, :ncolumns].to_memory()
            finally:
                backed.file.close()
        values = pd.DataFrame(corner.X, index=corner.obs_names, columns=corner.var_names).round(3)
        frame = pd.concat([corner.obs.astype(str), values], axis=1).reset_index(names="sample")
        return TablePreview(frame.to_dict(orient="split"))


def _write_to_map(data: AnnData, path: Path) -> None:
    """As ``write_h5ad`` does: uncompressed and on words of 8 bytes, since nothing else can be mapped."""
    import h5py
    from anndata.io import write_elem

    data.strings_to_categoricals()
    with h5py.File(path, "w", alignment_threshold=1, alignment_interval=8) as file:
        write_elem(file, "/", data)
        if data.raw is None:
            file.pop("raw", None)  # an empty group


def _read_mapped(path: Path) -> AnnData:
    """An ``.h5ad`` file, whose dense uncompressed values are mapped copy-on-write."""
    import anndata as ad
    import h5py
    import numpy as np
    from anndata.io import read_elem

    def values(element: Any) -> Any:
        offset = element.id.get_offset() if isinstance(element, h5py.Dataset) and not element.chunks else None
        if offset is None or offset % element.dtype.itemsize:  # none of an empty one
            return read_elem(element)
        return np.asarray(np.memmap(path, element.dtype, mode="c", offset=offset, shape=element.shape))

    with h5py.File(path) as file:
        if file.attrs.get("encoding-type") != "anndata" or "raw" in file:
            return ad.read_h5ad(path)
        parts = {name: read_elem(element) for name, element in file.items() if name not in ("X", "layers")}
        layers = {name: values(element) for name, element in file.get("layers", {}).items()}
        return ad.AnnData(X=values(file["X"]) if "X" in file else None, layers=layers, **parts)


class ModelDataset(_LocalDataset):
    """A reconstructor or an evaluation reference: a folder with ``model.json`` and ``tensors.safetensors``."""

    def load(self) -> Any:
        folder = self._present_path()
        kind = read_description(folder).get("kind")
        if kind == "generator":
            from transcriptome_diffusion.generators.registry import load_generator

            return load_generator(folder)
        if kind == "reconstructor":
            from transcriptome_diffusion.reconstruction.registry import load_reconstructor

            return load_reconstructor(folder)
        if kind == "evaluation_reference":
            from transcriptome_diffusion.metrics.reference import EvaluationReference

            return EvaluationReference.load(folder)
        raise DatasetError(
            f"{folder} holds a {kind!r}; expected a generator, a reconstructor or an evaluation reference."
        )

    def save(self, data: Any) -> None:
        data.save(Path(str(self._get_save_path())))

    def preview(self) -> JSONPreview:
        """Settings and training record; gene lists and the curve are left out."""
        found = read_description(self._present_path())
        record = {k: v for k, v in found.get("record", {}).items() if k != "curve"}
        return JSONPreview({**{k: v for k, v in found.items() if k not in ("genes", "record")}, "record": record})


class TrainedModelDataset(_LocalDataset):
    """All trainings of one model: a folder with ``run_1``, ``run_2``, ..., and ``transcriptome/run_1``, ...

    What is saved are trainings that are due, which are done and written one by one. It is loaded as
    ``generators.runs.TrainedModel``, which reads a training when it is asked for.
    """

    def load(self) -> Any:
        from transcriptome_diffusion.generators.runs import TrainedModel

        model = TrainedModel(self._path())
        if not model.landmarks.tried:
            raise FileNotFoundError(f"{self._path()} holds no trained model; run the pipeline that trains it first.")
        return model

    def save(self, data: Any) -> None:
        from transcriptome_diffusion.runners import each

        folder = Path(str(self._get_save_path()))
        each([partial(training.save, folder) for training in data])

    def _exists(self) -> bool:
        from transcriptome_diffusion.generators.runs import TrainedModel

        return TrainedModel(self._path()).complete

    def preview(self) -> JSONPreview:
        """Settings and record of the first run; the gene list and the curve are left out."""
        return ModelDataset(filepath=str(self._path() / "run_1")).preview()


class FolderDataset(AbstractDataset[None, Any]):
    """A folder whose parts a node finds by itself, such as that of all trained models; it is loaded as its path."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> Path:
        if not self._exists():
            raise FileNotFoundError(f"{self._filepath} does not exist; run the pipeline that makes it first.")
        return Path(self._filepath)

    def save(self, data: None) -> None:
        raise DatasetError("a folder is read, never written.")

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class RequestDataset(AbstractDataset[Any, None]):
    """Profiles on request (``generation.Request``), drawn and written when they are saved, in the format of their name.

    Args:
        filepath: the folder they are written to.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> None:
        raise DatasetError(f"profiles on request are written, never read; read the files in {self._filepath}.")

    def save(self, data: Mapping[str, Any]) -> None:
        """By file name, what is asked for."""
        for name, request in data.items():
            path = request.write(Path(self._filepath) / name)
            logger.info("%d profiles: %s", len(request.labels), path)

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class PartsDataset(AbstractDataset[Any, Any]):
    """Several datasets of one kind under one name, each saved and loaded on its own.

    Kedro's partitioned dataset does the same but for two things: a killed run leaves some parts, which pass for all of
    them, and parts of an earlier run that are no longer made stay. Here ``parts.json`` names the parts, and is written
    when the last one is there.

    Args:
        filepath: of a part, with ``*`` where its name stands.
        dataset: type of every part, as in the catalog, without its filepath.
    """

    INDEX = "parts.json"

    def __init__(self, *, filepath: str, dataset: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        if filepath.count("*") != 1:
            raise DatasetError(f"`filepath` is {filepath!r}; expected one `*` where the name of a part stands.")
        self._filepath = filepath
        self._dataset = dataset
        self.metadata = metadata

    def load(self) -> dict[str, Callable[[], Any]]:
        """By name, functions that load a part."""
        return {name: self._part(name).load for name in self._names()}

    def save(self, data: Mapping[str, Any]) -> None:
        """Save every part; a function is called when its part's turn has come, so that one at a time is in memory.

        A long training within the function goes on from its last checkpoint, if its process was killed.
        """
        before = self._names() if self._exists() else []
        self._index.unlink(missing_ok=True)
        for name, part in data.items():
            with checkpoints_in(self._path(name).with_name(f".{name}-checkpoints")):
                self._part(name).save(part() if callable(part) else part)
        for name in set(before) - set(data):
            path = self._path(name)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        with replaced_when_whole(self._index) as staging:
            staging.write_text(json.dumps(list(data)), encoding="utf-8")

    def preview(self) -> JSONPreview:
        """The names of the parts."""
        return JSONPreview({"parts": self._names()})

    @property
    def _index(self) -> Path:
        return Path(self._filepath.partition("*")[0]) / self.INDEX

    def _path(self, name: str) -> Path:
        return Path(self._filepath.replace("*", name))

    def _names(self) -> list[str]:
        if not self._exists():
            raise FileNotFoundError(f"{self._index} does not exist; run the pipeline that makes it first.")
        return json.loads(self._index.read_text(encoding="utf-8"))

    def _part(self, name: str) -> AbstractDataset[Any, Any]:
        return AbstractDataset.from_config(name, {**self._dataset, "filepath": str(self._path(name))})

    def _exists(self) -> bool:
        return self._index.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "dataset": self._dataset}


class CohortDataset(AbstractDataset[None, Any]):
    """A cohort in its published format, read by one of ``cohorts.readers``; swap cohorts by swapping this entry.

    Args:
        reader: the format's name, for instance ``rnaseqdb`` or ``simulated``.
        filepath: the file or folder as published, on the local disk or with a protocol of fsspec, such as
            ``s3://bucket/gtex``; not needed for simulated cohorts.
        options: what the reader takes.
        credentials: of the remote storage, as Kedro's own datasets take them.
        fs_args: further arguments of its fsspec file system.
    """

    def __init__(
        self,
        *,
        reader: str,
        filepath: str | None = None,
        options: dict[str, Any] | None = None,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._storage = Storage(filepath, credentials, fs_args) if filepath and is_remote(filepath) else None
        self.reader = reader
        self._filepath = filepath
        self.options = options or {}
        self.metadata = metadata

    def load(self) -> AnnData:
        from transcriptome_diffusion.cohorts.readers import read_cohort

        if self._storage is not None:
            # an own cohort names the tables beside its matrix; the readers of published ones look for theirs
            tables = [self.options[name] for name in ("samples", "genes", "tx2gene") if self.options.get(name)]
            with self._storage.fetched_with(tables if self.reader == "own" else None) as local:
                return read_cohort(self.reader, local, self.options)
        path = None if self._filepath is None else Path(self._filepath).expanduser()
        return read_cohort(self.reader, path, self.options)

    def save(self, data: None) -> None:
        raise DatasetError("a published cohort is read, never written; save profiles with AnnDataDataset.")

    def _exists(self) -> bool:
        if self._storage is not None:
            return self._storage.exists()
        return self._filepath is None or Path(self._filepath).expanduser().exists()

    def _describe(self) -> dict[str, Any]:
        return {"reader": self.reader, "filepath": self._filepath, "options": self.options}


class GeneSetsDataset(AbstractDataset[None, Any]):
    """Gene sets of the user's, a GMT file; without a file there are none.

    Args:
        filepath: the file, or null.
    """

    def __init__(self, *, filepath: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        self._path = None if filepath is None else Path(filepath).expanduser()
        self.metadata = metadata

    def load(self) -> dict[str, tuple[str, ...]]:
        from transcriptome_diffusion.metrics.biology.gene_sets import read_gmt

        return {} if self._path is None else read_gmt(self._path)

    def save(self, data: None) -> None:
        raise DatasetError("gene sets are read, never written.")

    def _exists(self) -> bool:
        return self._path is None or self._path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._path}


class LandmarkTableDataset(AbstractDataset[None, Any]):
    """The landmark panel: the L1000 table that comes with the package, or a CSV file of the user's.

    Args:
        filepath: a table with the columns ``entrez_id``, ``symbol`` and ``ensembl_id``; null for L1000.
    """

    def __init__(self, *, filepath: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        self._path = None if filepath is None else Path(filepath).expanduser()
        self.metadata = metadata

    def load(self) -> DataFrame:
        from transcriptome_diffusion.expression.landmarks import load_panel

        return load_panel(self._path)

    def preview(self, nrows: int = 20) -> TablePreview:
        """The first genes."""
        return TablePreview(self.load().head(nrows).to_dict(orient="split"))

    def save(self, data: None) -> None:
        raise DatasetError("the landmark panel is read, never written.")

    def _exists(self) -> bool:
        return self._path is None or self._path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._path}
