from pathlib import Path

import anndata as ad
import fsspec
import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError
from kedro.io.core import Version
from scipy.sparse import csr_matrix

from transcriptome_diffusion.contracts import ExpressionContract
from transcriptome_diffusion.datasets import (
    AnnDataDataset,
    CohortDataset,
    GeneSetsDataset,
    ModelDataset,
    PartsDataset,
    TrainedModelDataset,
)
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.runs import trainings


@pytest.fixture
def profiles():
    obs = pd.DataFrame({"tissue": ["liver", "lung", "lung"], "donor": list("abc"), "study": "S"}, index=list("xyz"))
    var = pd.DataFrame(
        {"symbol": ["TP53", "MYC"], "entrez_id": ["7157", "4609"], "ensembl_id": "", "is_landmark": True}
    )
    var.index = pd.Index(["TP53", "MYC"])
    return make_profiles(
        np.arange(6).reshape(3, 2), obs, var, "log2(TPM + 1)", {"name": "x", "seed": 1, "settings": {}}
    )


def test_profiles_come_back_with_tables_unit_and_provenance(tmp_path, profiles):
    dataset = AnnDataDataset(filepath=str(tmp_path / "deep" / "profiles.h5ad"))
    assert not dataset.exists()
    dataset.save(profiles)
    found = dataset.load()
    np.testing.assert_array_equal(found.X, profiles.X)
    assert found.X.dtype == np.float32
    assert found.obs["tissue"].tolist() == ["liver", "lung", "lung"]
    assert found.var["entrez_id"].tolist() == ["7157", "4609"]
    assert found.uns["unit"] == "log2(TPM + 1)"
    assert found.uns["generator"]["name"] == "x"


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(DatasetError, match="run the pipeline that makes it first"):
        AnnDataDataset(filepath=str(tmp_path / "none.h5ad")).load()


def test_values_are_mapped_and_changes_stay_private(tmp_path, profiles):
    dataset = AnnDataDataset(filepath=str(tmp_path / "profiles.h5ad"))
    profiles.layers["counts"] = 2 * profiles.X
    dataset.save(profiles)
    first, before = dataset.load(), (tmp_path / "profiles.h5ad").read_bytes()
    mapped = Path("/proc/self/maps")
    if mapped.exists():
        assert str(tmp_path / "profiles.h5ad") in mapped.read_text()
    first.X[:] = 7
    assert (tmp_path / "profiles.h5ad").read_bytes() == before
    second = dataset.load()
    assert (second.X == profiles.X).all()
    assert (second.layers["counts"] == 2 * profiles.X).all()
    dataset.save(first)  # the file is replaced, and what was mapped stays as it was
    assert (second.X == profiles.X).all()
    assert (dataset.load().X == 7).all()
    sparse = ad.AnnData(csr_matrix(profiles.X), profiles.obs, profiles.var)
    dataset.save(sparse)
    assert (dataset.load().X.toarray() == profiles.X).all()


def test_a_failed_save_leaves_the_old_profiles(tmp_path, profiles):
    dataset = AnnDataDataset(filepath=str(tmp_path / "profiles.h5ad"))
    dataset.save(profiles)
    broken = profiles.copy()
    broken.uns["unsaveable"] = object()
    with pytest.raises(DatasetError):
        dataset.save(broken)
    assert dataset.load().uns["unit"] == "log2(TPM + 1)"
    assert [path.name for path in tmp_path.iterdir()] == ["profiles.h5ad"]


def test_a_preview_shows_a_corner(tmp_path, profiles):
    dataset = AnnDataDataset(filepath=str(tmp_path / "profiles.h5ad"))
    dataset.save(profiles)
    preview = dataset.preview(nrows=2, ncolumns=1)
    assert preview["columns"] == ["sample", "tissue", "donor", "study", "TP53"]
    assert [row[0] for row in preview["data"]] == ["x", "y"]


def test_a_model_of_unknown_kind_is_refused(tmp_path):
    from transcriptome_diffusion.artefacts import write_model

    write_model(tmp_path / "m", {"kind": "classifier"}, {"a": np.ones(1)})
    with pytest.raises(DatasetError, match="'classifier'; expected a generator, a reconstructor or an evaluation"):
        ModelDataset(filepath=str(tmp_path / "m")).load()


class TestRemoteStorage:
    """Any storage of fsspec: one in memory, and S3 as a server on this machine speaks it."""

    @pytest.fixture
    def memory(self):
        files = fsspec.filesystem("memory")
        yield files
        files.store.clear()
        files.pseudo_dirs[:] = [""]

    @pytest.fixture(scope="class")
    def s3(self):
        """Credentials of a server with the bucket ``cohorts``."""
        pytest.importorskip("s3fs", reason="SKIPPED: NO S3 WITHOUT s3fs AND moto: pip install s3fs 'moto[server]'")
        pytest.importorskip(
            "moto.server", reason="SKIPPED: NO S3 WITHOUT s3fs AND moto: pip install s3fs 'moto[server]'"
        )
        from moto.server import ThreadedMotoServer

        server = ThreadedMotoServer(port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        credentials = {"key": "mine", "secret": "hidden", "endpoint_url": f"http://{host}:{port}"}
        fsspec.filesystem("s3", **credentials).mkdir("cohorts")
        yield credentials
        server.stop()

    @staticmethod
    def own_cohort(files, folder):
        """A matrix and its sample table."""
        genes = "\n".join(f"{name},1.5,20,300" for name in ("TP53", "MYC", "EGFR"))
        files.pipe_file(f"{folder}/matrix.csv", f"gene,x,y,z\n{genes}\n".encode())
        files.pipe_file(f"{folder}/samples.csv", b"id,organ\nx,liver\ny,lung\nz,lung\n")
        return {"samples": "samples.csv", "columns": {"sample": "id", "tissue": "organ"}, "unit": "FPKM"}

    def test_profiles_are_written_and_read_in_memory(self, memory, profiles):
        dataset = AnnDataDataset(filepath="memory://results/profiles.h5ad")
        assert not dataset.exists()
        with pytest.raises(DatasetError, match=r"memory://results/profiles.h5ad does not exist; run the pipeline"):
            dataset.load()
        dataset.save(profiles)
        assert dataset.exists()
        np.testing.assert_array_equal(dataset.load().X, profiles.X)
        assert dataset.preview(nrows=1, ncolumns=1)["columns"][-1] == "TP53"

    def test_versions_are_kept(self, memory, profiles):
        for version in ("2026-01-01", "2026-01-02"):
            dataset = AnnDataDataset(filepath="memory://kept/profiles.h5ad", version=Version(None, version))
            dataset.save(profiles[: int(version[-1])].copy())
        assert AnnDataDataset(filepath="memory://kept/profiles.h5ad", version=Version(None, None)).load().n_obs == 2
        first = AnnDataDataset(filepath="memory://kept/profiles.h5ad", version=Version("2026-01-01", None))
        assert first.load().n_obs == 1

    def test_a_failed_save_leaves_what_was_there(self, memory, profiles):
        dataset = AnnDataDataset(filepath="memory://results/profiles.h5ad")
        dataset.save(profiles)
        broken = profiles.copy()
        broken.uns["unsaveable"] = object()
        with pytest.raises(DatasetError):
            dataset.save(broken)
        assert dataset.load().uns["unit"] == "log2(TPM + 1)"

    def test_a_cohort_in_a_file_brings_the_tables_that_it_names(self, memory):
        options = self.own_cohort(memory, "/raw")
        memory.pipe_file("/raw/large.bin", b"not fetched")
        dataset = CohortDataset(reader="own", filepath="memory://raw/matrix.csv", options=options)
        assert dataset.exists()
        assert dataset.load().obs["tissue"].tolist() == ["liver", "lung", "lung"]
        assert not CohortDataset(reader="own", filepath="memory://raw/none.csv", options=options).exists()

    def test_a_published_cohort_is_fetched_with_its_folder(self, memory, monkeypatch):
        seen = {}

        def reads(reader, path, options):
            seen[reader] = path, {str(found.relative_to(path)) for found in path.rglob("*.txt")}

        monkeypatch.setattr("transcriptome_diffusion.cohorts.readers.read_cohort", reads)
        for name in ("a.txt", "deep/b.txt"):
            memory.pipe_file(f"/published/{name}", b"x")
        CohortDataset(reader="rnaseqdb", filepath="memory://published").load()
        path, files = seen["rnaseqdb"]
        assert files == {"a.txt", "deep/b.txt"}
        assert not path.exists()
        with pytest.raises(DatasetError, match=r"memory://nowhere does not exist, or is an empty folder"):
            CohortDataset(reader="rnaseqdb", filepath="memory://nowhere").load()

    @pytest.mark.slow
    def test_a_cohort_on_s3_is_a_change_of_the_catalog(self, s3, profiles):
        options = self.own_cohort(fsspec.filesystem("s3", **s3), "cohorts/raw")
        entries = {
            "raw_cohort": {
                "type": "transcriptome_diffusion.datasets.CohortDataset",
                "reader": "own",
                "filepath": "s3://cohorts/raw/matrix.csv",
                "options": options,
                "credentials": "storage",
            },
            "profiles": {
                "type": "transcriptome_diffusion.datasets.AnnDataDataset",
                "filepath": "s3://cohorts/profiles.h5ad",
                "credentials": "storage",
            },
        }
        catalog = DataCatalog.from_config(entries, {"storage": s3})
        assert catalog.load("raw_cohort").obs["tissue"].tolist() == ["liver", "lung", "lung"]
        assert not catalog.exists("profiles")
        catalog.save("profiles", profiles)
        np.testing.assert_array_equal(catalog.load("profiles").X, profiles.X)
        assert "hidden" not in repr(catalog["profiles"])

    def test_a_package_that_is_missing_is_named(self, monkeypatch, profiles):
        def absent(protocol, **_):
            raise ImportError(protocol)

        monkeypatch.setattr(fsspec, "filesystem", absent)
        message = r"s3://bucket/a.h5ad needs a package for s3:// that is not installed: pip install s3fs"
        with pytest.raises(DatasetError, match=message):
            AnnDataDataset(filepath="s3://bucket/a.h5ad").load()
        with pytest.raises(DatasetError, match=message):
            CohortDataset(reader="own", filepath="s3://bucket/a.h5ad").load()

    def test_models_stay_on_the_local_disk(self):
        with pytest.raises(DatasetError, match="s3://bucket/vae: TrainedModelDataset keeps its files on the local"):
            TrainedModelDataset(filepath="s3://bucket/vae")


def test_a_cohort_cannot_be_overwritten(profiles):
    with pytest.raises(DatasetError, match="never written"):
        CohortDataset(reader="simulated").save(profiles)


def test_an_unknown_reader_names_the_known_ones():
    with pytest.raises(DatasetError, match=r"rnaseqdb"):
        CohortDataset(reader="excel").load()


class TestExpressionContract:
    def test_good_profiles_pass_unchanged(self, profiles):
        assert ExpressionContract("log2(TPM + 1)", ["tissue", "donor"]).validate(profiles) is profiles

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (
                lambda p: p.uns.update(unit="TPM"),
                r"expected expression in log2\(TPM \+ 1\), found 'TPM' with values from 0 to 5",
            ),
            (lambda p: setattr(p, "X", p.X.astype(np.float64)), "expected float32 values, found float64"),
            (lambda p: p.X.__setitem__((0, 0), np.nan), "1 values are NaN or infinite"),
            (lambda p: p.obs.drop(columns="donor", inplace=True), r"obs lacks \['donor'\]"),  # noqa: PD002
            (lambda p: p.var.drop(columns="entrez_id", inplace=True), r"var lacks \['entrez_id'\]"),  # noqa: PD002
        ],
    )
    def test_each_broken_promise_is_named(self, profiles, spoil, message):
        spoil(profiles)
        with pytest.raises(ValueError, match=message):
            ExpressionContract("log2(TPM + 1)", ["tissue", "donor"]).validate(profiles)

    def test_values_may_be_missing_where_the_catalog_says_so_but_never_infinite(self, profiles):
        contract = ExpressionContract("log2(TPM + 1)", missing=True)
        profiles.X[0, 0] = np.nan
        assert contract.validate(profiles) is profiles
        profiles.X[0, 0] = np.inf
        with pytest.raises(ValueError, match="1 values are NaN or infinite"):
            contract.validate(profiles)


def test_trainings_are_saved_one_by_one_and_read_back_as_a_sequence(tmp_path, profiles):
    dataset = TrainedModelDataset(filepath=str(tmp_path / "class_gaussian"))
    assert not dataset.exists()
    data = {"landmarks": (profiles, profiles, ClassGaussianOptions())}
    for training in trainings(ClassGaussian, data, runs=3):
        assert not dataset.exists()
        dataset.save([training])
    assert dataset.exists()
    assert [found.record["run"] for found in dataset.load().landmarks] == [1, 2, 3]
    assert dataset.preview()["record"]["run"] == 1
    dataset.save(trainings(ClassGaussian, data, runs=1))
    assert len(dataset.load().landmarks) == 1


def test_no_training_at_all_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="holds no trained model"):
        TrainedModelDataset(filepath=str(tmp_path / "vae")).load()


class TestParts:
    """Several datasets under one name."""

    @pytest.fixture
    def dataset(self, tmp_path):
        kind = {"type": "transcriptome_diffusion.datasets.AnnDataDataset"}
        return PartsDataset(filepath=str(tmp_path / "ddim" / "*" / "profiles.h5ad"), dataset=kind)

    def test_parts_are_made_when_they_are_saved_and_read_when_they_are_called(self, dataset, profiles, tmp_path):
        made = []

        def part(name):
            def make():
                made.append((name, sorted(path.parent.name for path in tmp_path.rglob("*.h5ad"))))
                return profiles

            return make

        dataset.save({"ridge": part("ridge"), "mlp": part("mlp"), "direct": profiles})
        assert made == [("ridge", []), ("mlp", ["ridge"])]
        loaded = dataset.load()
        assert list(loaded) == ["ridge", "mlp", "direct"]
        np.testing.assert_array_equal(loaded["mlp"]().X, profiles.X)
        assert dataset.preview() == {"parts": ["ridge", "mlp", "direct"]}

    def test_an_interrupted_save_does_not_pass_for_a_whole_one(self, dataset, profiles):
        def interrupted():
            raise KeyboardInterrupt

        dataset.save({"ridge": profiles, "mlp": profiles})
        with pytest.raises(KeyboardInterrupt):
            dataset.save({"ridge": profiles, "mlp": interrupted})
        assert not dataset.exists()
        with pytest.raises(DatasetError, match="run the pipeline that makes it first"):
            dataset.load()

    def test_parts_that_are_no_longer_made_go(self, dataset, profiles, tmp_path):
        dataset.save({"ridge": profiles, "mlp": profiles})
        dataset.save({"ridge": profiles})
        assert list(dataset.load()) == ["ridge"]
        assert [path.parent.name for path in tmp_path.rglob("*.h5ad")] == ["ridge"]

    def test_a_path_without_a_place_for_the_name_is_refused(self):
        with pytest.raises(DatasetError, match="expected one `\\*`"):
            PartsDataset(filepath="a/b.h5ad", dataset={})

    def test_the_contract_checks_every_part_when_it_is_called(self, profiles):
        wrong = profiles.copy()
        wrong.uns["unit"] = "TPM"
        checked = ExpressionContract("log2(TPM + 1)").validate({"good": lambda: profiles, "bad": lambda: wrong})
        assert checked["good"]() is profiles
        with pytest.raises(ValueError, match="found 'TPM'"):
            checked["bad"]()


def test_gene_sets_are_read_where_a_file_is_named_and_none_otherwise(tmp_path):
    path = tmp_path / "sets.gmt"
    path.write_text("GROWTH\tfrom a test\tTP53\tMYC\n")
    assert GeneSetsDataset(filepath=str(path)).load() == {"GROWTH": ("TP53", "MYC")}
    assert GeneSetsDataset().load() == {}
    assert GeneSetsDataset().exists()
    assert not GeneSetsDataset(filepath=str(tmp_path / "none.gmt")).exists()
    with pytest.raises(DatasetError, match=r"none\.gmt"):
        GeneSetsDataset(filepath=str(tmp_path / "none.gmt")).load()
    with pytest.raises(DatasetError, match="read, never written"):
        GeneSetsDataset().save({})
