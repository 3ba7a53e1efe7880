"""Kedro dataset types of our own: profiles (.h5ad), fitted models (a folder), and cohorts as published.

Saves are atomic: a run that fails leaves the old file, or none, under the final name. Nothing heavy is imported
before something is loaded or saved, so that listing pipelines stays fast.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NewType

from kedro.io import AbstractDataset, AbstractVersionedDataset, DatasetError
from kedro.io.core import Version

from transcriptome_diffusion.artefacts import read_description, replaced_when_whole

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame

# kedro-viz recognises a preview by the name of its return annotation
TablePreview = NewType("TablePreview", dict)
JSONPreview = NewType("JSONPreview", dict)


class _LocalDataset(AbstractVersionedDataset[Any, Any]):
    """What profile and model datasets share: a local path, optional versions, metadata for kedro-viz."""

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(PurePosixPath(filepath), version, exists_function=lambda path: Path(path).exists())
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
    """Profiles in an ``.h5ad`` file: float32, samples x genes, see ``expression.profiles``."""

    def load(self) -> AnnData:
        import anndata as ad

        return ad.read_h5ad(self._present_path())

    def save(self, data: AnnData) -> None:
        with replaced_when_whole(Path(str(self._get_save_path()))) as staging:
            data.write_h5ad(staging, compression="lzf")

    def preview(self, nrows: int = 5, ncolumns: int = 8) -> TablePreview:
        """The corner of the matrix beside the sample labels; the file is opened, not read."""
        import anndata as ad
        import pandas as pd

        backed = ad.read_h5ad(self._present_path(), backed="r")
        try:
            corner = backed[:nrows, :ncolumns].to_memory()
        finally:
            backed.file.close()
        values = pd.DataFrame(corner.X, index=corner.obs_names, columns=corner.var_names).round(3)
        frame = pd.concat([corner.obs.astype(str), values], axis=1).reset_index(names="sample")
        return TablePreview(frame.to_dict(orient="split"))


class ModelDataset(_LocalDataset):
    """A generator, a reconstructor or yardsticks: a folder with ``model.json`` and ``tensors.safetensors``."""

    def load(self) -> Any:
        folder = self._present_path()
        kind = read_description(folder).get("kind")
        if kind == "generator":
            from transcriptome_diffusion.generators.registry import load_generator

            return load_generator(folder)
        if kind == "reconstructor":
            from transcriptome_diffusion.reconstruction import load_reconstructor

            return load_reconstructor(folder)
        if kind == "yardsticks":
            from transcriptome_diffusion.metrics.yardsticks import Yardsticks

            return Yardsticks.load(folder)
        raise DatasetError(f"{folder} holds a {kind!r}; expected a generator, a reconstructor or yardsticks.")

    def save(self, data: Any) -> None:
        data.save(Path(str(self._get_save_path())))

    def preview(self) -> JSONPreview:
        """Settings and training record; the gene list and the curve are left out."""
        found = read_description(self._present_path())
        record = {k: v for k, v in found.get("record", {}).items() if k != "curve"}
        return JSONPreview({**{k: v for k, v in found.items() if k not in ("genes", "record")}, "record": record})


class RunsDataset(_LocalDataset):
    """The trainings of one generator: a folder with ``run_1``, ``run_2``, ..., each a model as in ``ModelDataset``.

    It is saved one model at a time, as the trainings end, and loaded as a sequence that reads a model when it
    is asked for it.

    Args:
        may_be_empty: load an empty sequence where nothing was trained yet, instead of raising.
    """

    def __init__(
        self,
        *,
        filepath: str,
        may_be_empty: bool = False,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        self.may_be_empty = may_be_empty

    def load(self) -> Any:
        from transcriptome_diffusion.generators.runs import Runs

        runs = Runs(self._path())
        if not runs and not self.may_be_empty:
            raise FileNotFoundError(f"{self._path()} holds no trained model; run the pipeline that makes it first.")
        return runs

    def save(self, data: Any) -> None:
        from transcriptome_diffusion.generators.runs import run_folder

        data.save(run_folder(Path(str(self._get_save_path())), data.record["run"]))

    def _exists(self) -> bool:
        return self.may_be_empty or any(self._path().glob("run_*"))

    def preview(self) -> JSONPreview:
        """Settings and record of the first run; the gene list and the curve are left out."""
        return ModelDataset(filepath=str(self._path() / "run_1")).preview()


class CohortDataset(AbstractDataset[None, Any]):
    """A cohort in its published format, read by one of ``cohorts.readers``; swap cohorts by swapping this entry.

    Args:
        reader: the format's name, for instance ``rnaseqdb`` or ``simulated``.
        filepath: the file or folder as published; not needed for simulated cohorts.
        options: what the reader takes.
    """

    def __init__(
        self,
        *,
        reader: str,
        filepath: str | None = None,
        options: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.reader = reader
        self._filepath = filepath
        self.options = options or {}
        self.metadata = metadata

    def load(self) -> AnnData:
        from transcriptome_diffusion.cohorts.readers import read_cohort

        path = None if self._filepath is None else Path(self._filepath).expanduser()
        return read_cohort(self.reader, path, self.options)

    def save(self, data: None) -> None:
        raise DatasetError("a published cohort is read, never written; save profiles with AnnDataDataset.")

    def _exists(self) -> bool:
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
