"""The public functions and `score` on the command line: any AnnData in, a trained model or a scorecard out."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.sparse import csr_matrix

import transcriptome_diffusion as td
from populations import SIZES, UNIT, draw
from transcriptome_diffusion import api
from transcriptome_diffusion.cli import cli
from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.metrics.options import ClassifierOptions, EvaluationOptions

GENES = 40
QUICK = {"draws": 2, "folds": 2, "components": 5, "classifier": {"hidden": [8], "epochs": 2, "seeds": [0]}}
#: where only which rows there are, or that two scorecards are one, is asked
ONE_DRAW = {**QUICK, "draws": 1, "contrast": None}


def cohort(seed=0, genes=GENES, **more):
    return draw(SIZES, seed, **more)[:, :genes].copy()


@pytest.fixture(scope="module")
def real():
    return td.split(cohort())


def bare(profiles):
    """What another tool writes: values, labels, gene names."""
    return ad.AnnData(profiles.X, obs=profiles.obs[["tissue"]], var=pd.DataFrame(index=profiles.var_names))


# -------------------------------------------------------------------------------------------------- any AnnData
@pytest.mark.parametrize(
    ("unit", "change"),
    [
        ("log2(CPM + 1)", lambda linear: np.log2(linear + 1)),
        ("log2(CPM + 0.001)", lambda linear: np.log2(linear + 0.001)),
        ("ln(CPM + 1)", np.log1p),
        ("CPM", lambda linear: linear),
        ("CPM", lambda linear: csr_matrix(linear)),
        ("counts", lambda linear: linear),
    ],
)
def test_every_unit_becomes_log2_of_x_plus_1(unit, change):
    linear = np.random.default_rng(0).gamma(2, 200, (6, 8)).astype(np.float32)
    linear[0, 0] = 0
    if unit == "counts":
        linear = np.round(linear)
    else:
        linear *= 1e6 / linear.sum(axis=1, keepdims=True)
    data = ad.AnnData(
        change(linear), obs={"organ": list("aabbcc")}, var=pd.DataFrame(index=[f"G{i}" for i in range(8)])
    )
    found = td.prepare(data, unit, label="organ")
    linear *= 1e6 / linear.sum(axis=1, keepdims=True) if unit == "counts" else 1
    np.testing.assert_allclose(found.X, np.log2(linear + 1), rtol=1e-3, atol=2e-3)
    assert found.uns["unit"] == UNIT
    assert found.X.dtype == np.float32
    assert found.obs["tissue"].tolist() == list("aabbcc")
    assert found.var["symbol"].tolist() == data.var_names.tolist()


def test_a_transformed_scale_is_kept_fitted_and_scored():
    data = cohort(genes=12)
    del data.uns["unit"]
    data.X -= 8
    parts = td.split(td.prepare(data, "VST", transformed=True))
    np.testing.assert_array_equal(parts.train.X, data[parts.train.obs_names].X)
    model = td.fit("class_gaussian", parts.train, parts.validation)
    made = model.sample(seed=1)
    assert made.uns["unit"] == "VST"
    card = td.score(*parts, {"class_gaussian": made}, ONE_DRAW)
    assert set(card["generator"]) == {"real", "refit", "expected", "memoriser", "class_gaussian"}


@pytest.mark.parametrize(
    ("change", "how", "said"),
    [
        (lambda data: data.uns.clear(), {}, "declare no unit"),
        (lambda data: None, {"label": "organ"}, "no column 'organ' with the class labels; it has"),
        (lambda data: None, {"donor": "patient"}, "no column 'patient' with the donors"),
        (lambda data: None, {"unit": "CPM"}, "they look like logarithms"),
        (lambda data: data.X.__imul__(30), {}, "they look linear"),
        (lambda data: data.X.__setitem__((3, 4), np.nan), {}, "sample '0-3', gene 'G4'"),
        (lambda data: data.obs.__setitem__("tissue", [None, *["a"] * 269]), {}, "1 of 270 samples have no"),
    ],
)
def test_what_cannot_be_right_is_refused(change, how, said):
    data = cohort()
    change(data)
    with pytest.raises(ValueError, match=said):
        td.prepare(data, **how)


@pytest.mark.parametrize(
    ("change", "unit", "said"),
    [
        (lambda counts: counts, "TPM", "whole numbers and the sums differ by a factor of [5-7].*`unit: counts`"),
        (lambda counts: counts * 20 + 0.5, "TPM", "too large for it.*`unit: counts`"),
        (lambda counts: np.log2(counts + 1), "log2(TPM + 1)", r"declared as log2\(TPM \+ 1\).*`unit: counts`"),
        (lambda counts: np.log2(counts + 1), "counts", "yet are fractions up to"),
        (lambda counts: (counts - counts.mean(0)) / counts.std(0), "log2(TPM + 1)", "they fit z-scores"),
        (lambda counts: np.where(np.arange(12)[:, None] == 3, 0, counts), "counts", "1 of 12 samples have no value"),
    ],
)
def test_some_genes_are_enough_to_tell_a_wrong_unit(change, unit, said, caplog):
    rng = np.random.default_rng(0)
    counts = rng.poisson(rng.gamma(0.4, 300, 600) * np.linspace(1, 6, 12)[:, None])
    data = ad.AnnData(change(counts).astype(np.float32), obs=pd.DataFrame({"tissue": "a"}, index=list("abcdefghijkl")))
    with pytest.raises(ValueError, match=said):
        td.prepare(data, unit)
    if unit != "counts" and "z-scores" not in said:
        assert td.prepare(data, unit, unit_check="warn").uns["unit"] == "log2(TPM + 1)"
        assert "counts" in caplog.text


def test_a_split_keeps_donors_together_and_repeats_with_the_seed(real):
    donors = [set(part.obs["donor"]) for part in real]
    assert not donors[0] & donors[1]
    assert not donors[0] & donors[2]
    assert not donors[1] & donors[2]
    assert sum(part.n_obs for part in real) == sum(SIZES.values())
    assert 0.6 < real.train.n_obs / sum(SIZES.values()) < 0.8
    assert td.split(cohort()).test.obs_names.equals(real.test.obs_names)
    assert not td.split(cohort(), seed=1).test.obs_names.equals(real.test.obs_names)


def test_few_donors_are_split_into_fewer_folds():
    data = draw({"brain": 12, "liver": 12}, 0)  # six donors each
    with pytest.raises(ValueError, match="too few donors to split into 10 folds: brain has 6"):
        td.split(data)
    assert all(part.n_obs for part in td.split(data, folds=5))


def test_a_column_says_the_split():
    data = cohort()
    data.obs["fold"] = ["train", "validation", "test"] * 90
    assert td.split(data, column="fold").validation.obs_names.tolist() == data.obs_names[1::3].tolist()
    data.obs["fold"] = data.obs["fold"].replace("validation", "valid")
    with pytest.raises(ValueError, match=r"'fold' holds \['test', 'train', 'valid'\]; \['validation'\] are missing"):
        td.split(data, column="fold")
    with pytest.raises(ValueError, match="no column 'splt' with the split"):
        td.split(data, column="splt")


def test_samples_without_donors_are_donors_of_their_own(caplog):
    parts = td.split(cohort(donors=False))
    assert "every sample is taken for a donor" in caplog.text
    assert sum(part.n_obs for part in parts) == sum(SIZES.values())


# ------------------------------------------------------------------------------------------------------- fit
def test_a_fitted_model_is_saved_loaded_and_drawn_from(real, tmp_path):
    model = td.fit("class_gaussian", real.train, real.validation, min_samples=5)
    assert model.settings["min_samples"] == 5
    model.save(tmp_path / "mine")
    again = td.load_generator(tmp_path / "mine")
    some = again.sample({"liver": 7}, seed=1)
    assert some.obs["tissue"].tolist() == ["liver"] * 7
    np.testing.assert_array_equal(some.X, model.sample({"liver": 7}, seed=1).X)
    # the balance of classes is that of training
    counts = real.train.obs["tissue"].value_counts().to_dict()
    assert again.sample(seed=1).obs["tissue"].value_counts().to_dict() == counts


@pytest.mark.parametrize("name", GENERATORS)
def test_every_generator_is_fitted_by_its_name(real, name):
    quick = {"training": {"max_steps": 2, "validate_every": 1}} if GENERATORS[name].trained else {}
    model = td.fit(name, real.train, real.validation, **quick)
    drawn = model.sample({"skin": 3}, seed=0)
    assert drawn.uns["generator"]["name"] == name
    assert drawn.uns["unit"] == UNIT


def test_what_cannot_be_fitted_is_refused(real):
    with pytest.raises(ValueError, match=r"no generator is called 'gan'; the known ones are \['class_gaussian'"):
        td.fit("gan", real.train, real.validation)
    with pytest.raises(ValueError, match="min_sample"):
        td.fit("class_gaussian", real.train, real.validation, min_sample=5)
    with pytest.raises(ValueError, match=r"found the unit None and \[\]. transcriptome_diffusion.prepare"):
        td.fit("class_gaussian", bare(real.train), real.validation)


# ----------------------------------------------------------------------------------------------------- score
@pytest.fixture(scope="module")
def card(real):
    narrow = bare(real.train)
    for tissue in SIZES:
        rows = (narrow.obs["tissue"] == tissue).to_numpy()
        narrow.X[rows] = 0.3 * narrow.X[rows] + 0.7 * narrow.X[rows].mean(axis=0)
    fresh = bare(cohort(9))[:, ::-1].copy()  # in another order of genes
    return td.score(*real, {"fresh": fresh, "narrow": narrow}, QUICK)


def test_rows_of_other_tools_stand_beside_ceiling_warning_and_floor(card):
    rows = ["real", "refit", "expected", "memoriser", "class_gaussian", "fresh", "narrow"]
    assert list(dict.fromkeys(card["generator"])) == rows
    assert set(card["space"]) == {"landmarks"}


def test_the_scores_tell_fresh_donors_from_copies_and_from_too_little_variance(card):
    by = card.query("reference == 'test'").set_index(["generator", "metric"])["mean"]
    assert abs(by["fresh", "spread"] - 1) < 0.25
    assert by["narrow", "spread"] < 0.3
    assert by["narrow", "two_sample_boosted"] > by["fresh", "two_sample_boosted"]
    copies = card.query("metric == 'copying'").set_index("generator")["mean"]
    assert copies["memoriser"] > 0.99 > 0.5 > copies["fresh"]


def test_only_genes_that_all_have_are_scored(real, caplog):
    fewer = bare(cohort(9))[:, 10:].copy()
    found = td.compare(real, {"class_gaussian": fewer}, ONE_DRAW)  # the name spares the row of our own
    assert "30 of 40 genes" in caplog.text
    whole = td.compare(td.Splits(*(part[:, 10:].copy() for part in real)), {"class_gaussian": fewer}, ONE_DRAW)
    pd.testing.assert_frame_equal(found.scorecard, whole.scorecard)


def test_one_class_is_scored_without_what_compares_classes():
    whole = draw({"brain": 180}, 0)
    parts = td.split(whole[:, :40].copy(), folds=5)
    found = td.compare(parts, {"fresh": bare(draw({"brain": 40}, 9)[:, :40].copy())}, ONE_DRAW, report=True)
    means = found.scorecard.query("generator == 'fresh' and reference == 'test'").set_index("metric")["mean"]
    assert np.isnan(means["balanced_accuracy_mlp"])
    assert np.isfinite(means[["spread", "coverage", "two_sample_boosted"]]).all()
    assert found.report.startswith("<!doctype html>")
    assert "against the other tissues" not in found.report


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda p: p.var.set_index(p.var_names + ".1"), "shares 0 of its 40 genes .* named like 'G0.1'.* like 'G0'"),
        (
            lambda p: p.obs.__setitem__("tissue", "lung"),
            r"labels that the real profiles lack: \['lung'\]; they have \['brain'",
        ),
        (lambda p: p.obs.__delitem__("tissue"), "no column 'tissue'"),
        (lambda p: p.uns.__setitem__("unit", "TPM"), r"is in TPM, the real profiles are in log2\(CPM \+ 1\)"),
        (lambda p: p.X.__imul__(40), "declare its unit"),
    ],
)
def test_profiles_that_do_not_fit_are_refused_before_anything_is_scored(real, change, said):
    mine = bare(cohort(9))
    changed = change(mine)
    if isinstance(changed, pd.DataFrame):
        mine.var_names = changed.index
    with pytest.raises(ValueError, match=said):
        td.score(*real, {"mine": mine}, QUICK)


def test_another_logarithm_is_warned_of(real, caplog, monkeypatch):
    mine = bare(cohort(9))
    mine.X = np.float32(mine.X * np.log10(2))

    class ReachedError(Exception):
        """The warning comes before the scores, which are not of interest."""

    def stop(*_):
        raise ReachedError

    monkeypatch.setattr("transcriptome_diffusion.metrics.reference.SpaceReference.fit", stop)
    with pytest.raises(ReachedError):
        td.score(*real, {"mine": mine}, QUICK)
    assert "mine has mean" in caplog.text


def test_rows_need_names_of_their_own(real):
    with pytest.raises(ValueError, match=r"\['real'\] name rows of the scorecard already"):
        td.score(*real, {"real": real.test})
    with pytest.raises(ValueError, match="no synthetic profiles"):
        td.score(*real, {})


# --------------------------------------------------------------------------------------------- the command line
@pytest.fixture
def files(tmp_path, monkeypatch):
    """Real profiles with a split, and what another tool made, without unit; classifiers are small."""

    class Quick(EvaluationOptions):
        folds: int = QUICK["folds"]
        components: int = QUICK["components"]
        classifier: ClassifierOptions = ClassifierOptions(**QUICK["classifier"])

    monkeypatch.setattr(api, "EvaluationOptions", Quick)
    real = cohort(genes=12)
    parts = td.split(real)
    real.obs["split"] = "train"
    real.obs.loc[parts.validation.obs_names, "split"] = "validation"
    real.obs.loc[parts.test.obs_names, "split"] = "test"
    real.write_h5ad(tmp_path / "real.h5ad")
    bare(cohort(9, genes=12)).write_h5ad(tmp_path / "gan.h5ad")
    return tmp_path


def invoke(files, *more):
    arguments = ["--real", str(files / "real.h5ad"), "--out", str(files / "scores"), "--draws", "2", *more]
    return CliRunner().invoke(cli, ["score", *arguments])


def test_the_command_line_writes_scorecard_and_report(files):
    run = invoke(files, "--split-column", "split", "--synthetic", f"<b>mine</b>={files / 'gan.h5ad'}")
    assert run.exit_code == 0, run.output
    assert "names no split" not in run.output
    card = pd.read_csv(files / "scores" / "scorecard.csv")
    assert set(card["generator"]) == {"real", "refit", "expected", "memoriser", "class_gaussian", "<b>mine</b>"}
    html = (files / "scores" / "report.html").read_text()
    assert "<b>mine</b>" not in html
    assert "&lt;b&gt;mine" in html
    for absent in ('id="training"', 'id="reconstruction"', "Landmark genes"):
        assert absent not in html
    assert 'id="privacy"' in html
    assert {"draws.csv", "by_tissue.csv"} < {path.name for path in (files / "scores").iterdir()}


def test_labels_of_generated_profiles_stand_in_tissue_whatever_the_real_column_is_called(files):
    real = ad.read_h5ad(files / "real.h5ad")
    real.obs = real.obs.rename(columns={"tissue": "organ", "donor": "patient"})
    real.write_h5ad(files / "real.h5ad")
    gan = ["--synthetic", str(files / "gan.h5ad"), "--folds", "500"]
    run = invoke(files, "--label", "organ", "--donor", "patient", *gan)
    assert "too few donors to split into 500 folds" in run.output  # past the labels, before the scores


def test_without_a_split_the_seed_makes_one_and_says_what_that_means(files, monkeypatch):
    monkeypatch.setattr(api, "_report", lambda *_: "")  # the test above looks at it
    run = invoke(files, "--seed", "3", "--draws", "1", "--synthetic", str(files / "gan.h5ad"))
    assert run.exit_code == 0, run.output
    assert "donors were split with --seed 3" in run.output
    assert "gan" in set(pd.read_csv(files / "scores" / "scorecard.csv")["generator"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--synthetic", "nowhere.h5ad"], "there is no file nowhere.h5ad"),
        (["--split-column", "fold"], "obs has no column 'fold' with the split; it has"),
        (["--label", "organ"], "obs has no column 'organ' with the class labels; it has"),
        (["--donor", "patient"], "obs has no column 'patient' with the donors"),
        (["--unit", "TPM"], "they look like logarithms"),
        (["--synthetic-unit", "log2(TPM + 1)"], "gan is in log2(TPM + 1), the real profiles are in log2(CPM + 1)"),
    ],
)
def test_a_mistake_is_one_sentence(files, arguments, said):
    run = invoke(files, *([] if "--synthetic" in arguments else ["--synthetic", str(files / "gan.h5ad")]), *arguments)
    assert run.exit_code != 0
    assert said in run.output
    assert "Traceback" not in run.output
    assert not (files / "scores").exists()
