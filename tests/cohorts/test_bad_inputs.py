"""The table of bad inputs: what the user sees for each, and that nothing half-written stays behind.

Most go through the datasets and nodes of the ingestion in this process; a few through the command line.
"""

from __future__ import annotations

import errno
import gzip
import resource
import tempfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from command_line import copied, kedro, kedro_here
from transcriptome_diffusion import datasets
from transcriptome_diffusion.datasets import AnnDataDataset, CohortDataset, LandmarkTableDataset
from transcriptome_diffusion.expression.options import IngestionOptions, SplitOptions
from transcriptome_diffusion.pipelines import ingestion

SAMPLES = [f"S{i}" for i in range(40)]
GENES = [f"ENSG{i:011}.3" for i in range(12)]
INGESTION = ("run", "--env", "own", "--pipelines", "ingestion")


class Cohort:
    """A good cohort in files, which each case spoils in one way."""

    def __init__(self, folder):
        rng = np.random.default_rng(0)
        self.folder = folder
        self.results = folder / "results"
        self.name = "expression.tsv"
        self.unit = "TPM"
        self.columns = {"sample": "id", "tissue": "organ", "donor": "patient"}
        self.gct = None
        self.values = pd.DataFrame(rng.gamma(2, 50, (12, 40)).round(3).astype(str), index=GENES, columns=SAMPLES)
        self.samples = pd.DataFrame(
            {"id": SAMPLES, "organ": ["liver", "lung"] * 20, "patient": [f"p{i // 2}" for i in range(40)]}
        )
        self.samples_encoding = "utf-8"
        self.edit_bytes = lambda content: content

    def write(self):
        table = self.values.rename_axis("Name")
        text = table.to_csv(sep="\t")
        if self.gct is not None:
            table.insert(0, "Description", "x")
            text = self.gct + table.to_csv(sep="\t")
        content = text.encode()
        if self.name.endswith(".gz"):
            content = gzip.compress(content)
        (self.folder / self.name).write_bytes(self.edit_bytes(content))
        self.samples.to_csv(self.folder / "samples.tsv", sep="\t", index=False, encoding=self.samples_encoding)

    def run(self, **ingestion_options):
        """The ingestion on these files, its results in ``results``."""
        options = {"samples": str(self.folder / "samples.tsv"), "columns": self.columns, "unit": self.unit}
        catalog = DataCatalog(
            {
                "raw_cohort": CohortDataset(reader="own", filepath=str(self.folder / self.name), options=options),
                "params:ingestion": MemoryDataset(IngestionOptions(min_samples_per_tissue=10, **ingestion_options)),
                "params:split": MemoryDataset(SplitOptions()),
                "landmark_genes": LandmarkTableDataset(),
                "ingestion.cohort": AnnDataDataset(filepath=str(self.results / "cohort.h5ad")),
                **{
                    name: AnnDataDataset(filepath=str(self.results / f"{name}.h5ad"))
                    for name in ("expression_train", "expression_validation", "expression_test")
                },
            }
        )
        SequentialRunner().run(ingestion.create_pipeline(), catalog)

    def left_behind(self):
        return sorted(path.name for path in self.results.rglob("*") if path.is_file())


@pytest.fixture
def cohort(tmp_path):
    return Cohort(tmp_path)


def test_the_unspoilt_cohort_passes(cohort):
    cohort.write()
    cohort.run()
    assert cohort.left_behind() == [
        "cohort.h5ad",
        "expression_test.h5ad",
        "expression_train.h5ad",
        "expression_validation.h5ad",
    ]


def as_gct(cohort, opening):
    cohort.name, cohort.gct = "expression.gct", opening


def set_cell(cohort, value):
    cohort.values.iloc[2, 1] = value


def gzipped(cohort, edit):
    cohort.name, cohort.edit_bytes = "expression.tsv.gz", edit


def ragged(cohort):
    cohort.edit_bytes = lambda content: content.replace(b"ENSG00000000002.3\t", b"ENSG00000000002.3\t1\t")


def logged(cohort):
    cohort.values = np.log2(cohort.values.astype(float) + 1).round(4).astype(str)


def mixed(cohort):
    cohort.values.index = [*GENES[:10], "TP53", "MYC"]


def repeated_sample(cohort):
    cohort.values = cohort.values.rename(columns={"S1": "S0"})


def other_samples(cohort):
    cohort.samples["id"] = [f"patient {i}" for i in range(40)]


def small_classes(cohort):
    cohort.samples["organ"] = [f"organ {i}" for i in range(40)]


def no_class(cohort):
    cohort.samples["organ"] = ""


def one_donor(cohort):
    cohort.samples.loc[cohort.samples["organ"] == "lung", "patient"] = "p1"


def latin(cohort):
    cohort.samples["organ"] = cohort.samples["organ"].replace("lung", "Lungenflügel")
    cohort.samples_encoding = "latin-1"


def utf16(cohort):
    cohort.edit_bytes = lambda content: content.decode().encode("utf-16")


CASES = {
    "truncated gzip": (
        lambda c: gzipped(c, lambda content: content[:-200]),
        r"expression\.tsv\.gz is truncated: the gzip stream ends too early\. Fetch the file again",
    ),
    "gzip with a broken byte": (
        lambda c: gzipped(c, lambda content: content[:1500] + b"\xff" * 200 + content[1700:]),
        r"expression\.tsv\.gz is not a sound gzip file .*Fetch the file again",
    ),
    "empty file": (lambda c: setattr(c, "edit_bytes", lambda content: b""), r"expression\.tsv is empty"),
    "a web page": (
        lambda c: setattr(c, "edit_bytes", lambda content: b"<html>404</html>"),
        r"expression\.tsv is a web page; expected a table of text",
    ),
    "wrong GCT version": (
        lambda c: as_gct(c, "#1.4\n12\t40\t0\t0\n"),
        r"expression\.gct is not GCT 1\.2: expected '#1\.2' as its first line, found '#1\.4'",
    ),
    "rows other than announced": (
        lambda c: as_gct(c, "#1.2\n13\t40\n"),
        r"expression\.gct announces 13 genes, but has 12",
    ),
    "columns other than announced": (
        lambda c: as_gct(c, "#1.2\n12\t41\n"),
        r"expression\.gct announces 41 samples, but .*40",
    ),
    "ragged row": (ragged, r"line 4: 42 cells, but the header has 41\. The file may have been cut off"),
    "text in a value": (
        lambda c: set_cell(c, "high"),
        r"line 4: expected a finite number.* for gene ENSG00000000002\.3, sample S1, found 'high'",
    ),
    "NaN": (
        lambda c: set_cell(c, "NaN"),
        r"1 of 12 genes have missing values, the first in sample 'S1', gene 'ENSG00000000002'.*Set `missing`",
    ),
    "infinite value": (
        lambda c: set_cell(c, "inf"),
        r"line 4: expected a finite number.* for gene ENSG00000000002\.3, sample S1, found 'inf'",
    ),
    "negative TPM": (
        lambda c: set_cell(c, "-3.5"),
        r"profiles in TPM must not be negative, found -3\.5 in sample 'S1', gene 'ENSG00000000002'",
    ),
    "duplicated sample": (repeated_sample, r"1 samples come several times in the matrix .*: S0\. Remove the copies"),
    "sample table that matches no column": (
        other_samples,
        r"the sample table matches no sample of .*expression\.tsv: it begins with \['patient 0', 'patient 1'\]",
    ),
    "unknown label column": (
        lambda c: c.columns.pop("tissue"),
        r"no column 'tissue' for the class label but \['donor', 'study'\]\. Set `ingestion\.label`.*`columns`",
    ),
    "unknown tissue column": (
        lambda c: c.columns.update(tissue="tissue_name"),
        r"the sample table .*samples\.tsv has no column 'tissue_name' for tissue; its columns are \['organ', ",
    ),
    "mixed identifiers": (mixed, r"mixes gene identifiers: 10 ensembl \(ENSG.*2 symbol \(TP53, MYC\)\. Remove the odd"),
    "log2 matrix declared linear": (
        logged,
        r"declared linear \(TPM\), yet their largest value is .*declare the unit as 'log2\(TPM \+ 1\)'",
    ),
    "linear matrix declared log2": (
        lambda c: setattr(c, "unit", "log2(TPM + 1)"),
        r"declared as log2\(TPM \+ 1\), yet reach .*they look linear already",
    ),
    "undeclared unit that cannot be told": (
        lambda c: (logged(c), setattr(c, "unit", None)),
        r"the unit cannot be told from values from .*Declare it, for instance `unit: TPM`",
    ),
    "classes that are too small": (small_classes, r"no tissue has 10 samples; the cohort has organ 0 \(1\)"),
    "a class without a sample": (no_class, r"no sample has a label in column 'tissue' of the cohort"),
    "one donor only": (
        one_donor,
        r"too few donors to split into 10 folds: lung has 1\. Lower n_folds, raise min_samples_per_tissue",
    ),
    "sample table in another encoding": (
        latin,
        r"samples\.tsv is not utf-8: byte 0xfc cannot be read\. Declare its encoding, for instance latin-1",
    ),
    "matrix in another encoding": (utf16, r"expression\.tsv.*UTF-8"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_bad_input_is_named_and_leaves_nothing_behind(cohort, case):
    spoil, message = CASES[case]
    spoil(cohort)
    cohort.write()
    with pytest.raises(Exception, match=message) as caught:
        cohort.run()
    assert len(str(caught.value)) < 900
    # a split that is refused comes after the whole cohort, which stays
    assert cohort.left_behind() == (["cohort.h5ad"] if case == "one donor only" else [])


@pytest.mark.parametrize(("missing", "genes"), [("drop", 11), ("impute", 12), ("zero", 12)])
def test_missing_values_pass_where_ingestion_says_what_becomes_of_them(cohort, missing, genes):
    set_cell(cohort, "NA")
    cohort.write()
    cohort.run(missing=missing)
    parts = [ad.read_h5ad(cohort.results / f"expression_{name}.h5ad") for name in ("train", "validation", "test")]
    assert [part.n_vars for part in parts] == [genes] * 3
    assert all(np.isfinite(part.X).all() for part in parts)
    if missing == "impute":
        filled = next(part for part in parts if "S1" in part.obs_names)["S1", "ENSG00000000002"].X.item()
        known = pd.Series(parts[0][:, "ENSG00000000002"].X[:, 0], index=parts[0].obs_names).drop("S1", errors="ignore")
        assert filled == pytest.approx(known.median())


def fill_the_disk(profiles, path):
    path.write_bytes(b"half of it")
    raise OSError(errno.ENOSPC, "Can't write data (file write failed: errno = 28, 'No space left on device')")


def test_a_full_disk_leaves_no_half_file(cohort, monkeypatch):
    cohort.write()
    monkeypatch.setattr(datasets, "_write_to_map", fill_the_disk)
    with pytest.raises(Exception, match=r"cohort\.h5ad was not written: no space is left on the disk.*`data_root`"):
        cohort.run()
    assert list(cohort.results.iterdir()) == []


def test_a_full_disk_leaves_the_result_of_an_earlier_run(cohort, monkeypatch):
    cohort.write()
    cohort.run()
    before = (cohort.results / "cohort.h5ad").read_bytes()
    monkeypatch.setattr(datasets, "_write_to_map", fill_the_disk)
    with pytest.raises(Exception, match="no space is left"):
        cohort.run()
    assert (cohort.results / "cohort.h5ad").read_bytes() == before
    assert len(list(cohort.results.iterdir())) == 4


def test_a_folder_that_may_not_be_written_is_named(cohort, monkeypatch):
    cohort.write()

    def refuse(*, dir, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(dir))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(Exception, match=r"cohort\.h5ad was not written: writing there is not permitted.*`data_root`"):
        cohort.run()
    assert cohort.left_behind() == []


class TestCommandLine:
    """Exit code and output of `kedro run`, from a copy of the project."""

    @pytest.fixture(scope="class")
    def copy(self, project, tmp_path_factory):
        copy = copied(project, tmp_path_factory.mktemp("bad") / "project")
        catalog = copy / "conf" / "own" / "catalog.yml"
        text = (
            catalog.read_text().replace("expression.csv.gz", "expression.tsv.gz").replace("samples.csv", "samples.tsv")
        )
        catalog.write_text(text.replace(", study: centre", ""))
        (copy / "data" / "01_raw" / "own").mkdir(parents=True)
        return copy

    @pytest.mark.parametrize("case", ["truncated gzip", "log2 matrix declared linear"])
    def test_a_bad_input_ends_the_run(self, copy, case):
        cohort = Cohort(copy / "data" / "01_raw" / "own")
        cohort.name = "expression.tsv.gz"
        CASES[case][0](cohort)
        cohort.write()
        run = kedro_here(copy, *INGESTION)
        assert run.returncode != 0
        message = {"truncated gzip": "is truncated", "log2 matrix declared linear": "declared linear (TPM)"}[case]
        assert message in run.stdout
        assert not [path for path in (copy / "data" / "own").rglob("*") if path.is_file()]

    def test_a_disk_that_takes_no_more_ends_the_run_without_a_half_file(self, copy):
        """The kernel refuses files beyond 8 KiB, as near to a full disk as a test comes without mounting one."""
        cohort = Cohort(copy / "data" / "01_raw" / "own")
        cohort.name = "expression.tsv.gz"
        cohort.write()
        run = kedro(
            copy, *INGESTION, before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
        )
        assert run.returncode != 0
        assert "cohort.h5ad was not written" in run.stdout + run.stderr
        assert not [path for path in (copy / "data" / "own").rglob("*") if path.is_file()]
