import gc
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from populations import GENES, SIZES, draw
from transcriptome_diffusion.artefacts import TENSOR_FILE, ArtefactError
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.memory import NotEnoughMemoryError
from transcriptome_diffusion.metrics import reference as module
from transcriptome_diffusion.metrics.distances import PrincipalAxes, frechet
from transcriptome_diffusion.metrics.neighbours import nearest
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.reference import EvaluationReference, SpaceReference

OPTIONS = EvaluationOptions(components=5, classifier={"hidden": [16], "epochs": 10})
COHORT = {
    "train": draw(SIZES, 0),
    "validation": draw({"brain": 30, "liver": 20, "skin": 20}, 1),
    "test": draw(SIZES, 2),
}
GENE_SETS = {"FIRST": tuple(f"G{i}" for i in range(30)), "SECOND": tuple(f"G{i}" for i in range(20, 60))}
NARROW = {split: part[:, :100].copy() for split, part in COHORT.items()}


@pytest.fixture(scope="module")
def both():
    return EvaluationReference.fit(NARROW, COHORT, GENE_SETS, OPTIONS)


@pytest.fixture(scope="module")
def space(both):
    return both["transcriptome"]


def test_profiles_are_measured_in_training_standard_deviations(space):
    values = np.asarray(COHORT["train"].X)
    np.testing.assert_array_equal(space.train.values, GeneScaler.fit(values)(values))
    assert space.train.conditions[:4].tolist() == ["tumor", "normal", "normal", "tumor"]
    assert space.train.donors[:3].tolist() == ["0-0", "0-0", "0-1"]


def test_real_profiles_are_measured_as_synthetic_ones_are(space):
    for split, profiles in COHORT.items():
        for ours, theirs in zip(getattr(space, split), space.measure(profiles), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_coordinates_and_features_are_those_of_the_two_frechet_distances(space):
    axes = PrincipalAxes.fit(space.train.values, OPTIONS.components)
    assert frechet(space.test.coordinates, space.validation.coordinates) == pytest.approx(
        frechet(axes(space.test.values), axes(space.validation.values))
    )
    assert space.test.features.shape == (COHORT["test"].n_obs, 16)


def test_distances_of_real_profiles_are_there_already(space):
    distances, which = nearest(space.test.values, space.train.values)
    np.testing.assert_array_equal(space.test_distances, distances)
    np.testing.assert_array_equal(space.test_nearest, which)
    first = np.linalg.norm(space.train.values[1:] - space.train.values[0], axis=1).min()
    assert space.train_distances[0] == pytest.approx(first, rel=1e-4)


def test_profiles_without_donors_are_their_own(space):
    found = space.measure(draw(SIZES, 3, donors=False))
    assert len(set(found.donors)) == len(found.values)
    profiles = draw(SIZES, 3, donors=False)
    del profiles.obs["sample_type"]
    assert space.measure(profiles).conditions is None


def test_what_is_read_again_is_the_same_in_both_spaces(both, tmp_path):
    both.save(tmp_path / "r")
    again = EvaluationReference.load(tmp_path / "r")
    for name, profiles in (("landmarks", NARROW), ("transcriptome", COHORT)):
        ours, theirs = both[name], again[name]
        for split in COHORT:
            for a, b in zip(getattr(ours, split), getattr(theirs, split), strict=True):
                np.testing.assert_array_equal(a, b)
                assert a.dtype == b.dtype
        for a, b in zip(theirs.measure(profiles["test"]), theirs.test, strict=True):
            np.testing.assert_array_equal(a, b)
        for field in ("train_distances", "test_distances", "test_nearest", "genes"):
            np.testing.assert_array_equal(getattr(ours, field), getattr(theirs, field))
        assert len(theirs.modules.members) == len(ours.modules.members) > 0
        np.testing.assert_array_equal(theirs.modules.correlation, ours.modules.correlation)
        assert {k: v.tolist() for k, v in theirs.gene_sets.items()} == {
            k: v.tolist() for k, v in ours.gene_sets.items()
        }
        assert (theirs.label, theirs.contrast) == ("tissue", "sample_type")
        np.testing.assert_array_equal(theirs.test_gene_set_scores, ours.test_gene_set_scores)


def test_only_the_space_in_use_is_read_and_what_is_changed_stays_private(both, tmp_path):
    both.save(tmp_path / "r")
    again = EvaluationReference.load(tmp_path / "r")
    again["landmarks"].train.values[:] = 0
    assert set(again._spaces) == {"landmarks"}
    assert EvaluationReference.load(tmp_path / "r")["landmarks"].train.values.any()


def test_many_genes_no_modules_and_no_contrast_survive_the_disk_too(tmp_path):
    rng = np.random.default_rng(0)
    var = pd.DataFrame({"symbol": ""}, index=[f"G{i}" for i in range(1100)])

    def profiles(n):
        obs = pd.DataFrame({"tissue": np.repeat(["a", "b"], n // 2), "donor": "d"}, index=[f"S{i}" for i in range(n)])
        return make_profiles(rng.normal(size=(n, 1100)), obs, var, "log2(TPM + 1)")

    parts = {"train": profiles(60), "validation": profiles(20), "test": profiles(20)}
    options = OPTIONS.model_copy(update={"contrast": None})
    made = EvaluationReference.fit(parts, parts, {}, options)
    assert made["landmarks"].modules is None
    made.save(tmp_path / "r")
    again = EvaluationReference.load(tmp_path / "r")["landmarks"]
    assert again.modules is again.contrast is again.test.conditions is None
    assert again.gene_sets == {}
    np.testing.assert_array_equal(again.measure(parts["test"]).features, made["landmarks"].test.features)


def test_other_genes_are_refused(space):
    with pytest.raises(ValueError, match="the scorecard"):
        space.measure(COHORT["test"][:, : GENES - 1])


def test_gene_sets_that_share_no_gene_with_the_cohort_are_refused():
    with pytest.raises(ValueError, match="none of 1 gene sets"):
        EvaluationReference.fit(NARROW, COHORT, {"OTHER": ("TP53",)}, OPTIONS)


def test_a_folder_of_something_else_or_a_broken_file_is_refused(both, tmp_path):
    with pytest.raises(ArtefactError, match="no model at"):
        EvaluationReference.load(tmp_path / "nothing")
    both.save(tmp_path / "r")
    tensors = tmp_path / "r" / TENSOR_FILE
    tensors.write_bytes(tensors.read_bytes()[:-100])
    with pytest.raises(ArtefactError, match="cannot read"):
        EvaluationReference.load(tmp_path / "r")["landmarks"]


def test_a_fit_takes_the_memory_that_it_asks_for(monkeypatch):
    def profiles(n, genes, prefix):
        rng, kind = np.random.default_rng(n), np.arange(n) % 6
        values = rng.standard_normal((n, genes), dtype=np.float32) + 2 * kind[:, None]
        obs = pd.DataFrame({"tissue": kind.astype(str), "donor": "d"}, index=[f"{prefix}{i}" for i in range(n)])
        return make_profiles(values, obs, pd.DataFrame({"symbol": ""}, index=[f"g{i}" for i in range(genes)]), "log2")

    options = EvaluationOptions.model_validate({"classifier": {"epochs": 1, "hidden": [8]}})
    SpaceReference.fit({split: profiles(60, 40, split) for split in COHORT}, {}, options)  # imports
    sizes = {"train": 2100, "validation": 300, "test": 300}
    parts = {split: profiles(n, 4000, split) for split, n in sizes.items()}
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "require_memory", lambda _, needed, advice: asked.append(needed))
        gc.collect()
        tracemalloc.start()
        try:
            SpaceReference.fit(parts, {}, options)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak == pytest.approx(asked[0], rel=0.3)
    monkeypatch.setattr("transcriptome_diffusion.memory.available_memory", lambda: 10**6)
    with pytest.raises(NotEnoughMemoryError, match="the evaluation reference of 4000 genes"):
        SpaceReference.fit(parts, {}, options)
