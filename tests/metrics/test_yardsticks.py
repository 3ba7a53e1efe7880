import numpy as np
import pytest

from populations import GENES, SIZES, draw
from transcriptome_diffusion.artefacts import ArtefactError
from transcriptome_diffusion.expression.scaling import GeneScaler
from transcriptome_diffusion.metrics.distances import PrincipalAxes, frechet
from transcriptome_diffusion.metrics.options import ClassifierOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.yardsticks import Yardsticks

COMPONENTS, CLASSIFIER = 5, ClassifierOptions(hidden=[16], epochs=10)

TRAIN, VALIDATION, TEST = draw(SIZES, 0), draw({"brain": 30, "liver": 20, "skin": 20}, 1), draw(SIZES, 2)


def fitted(train, validation, genes):
    parts = [ProfileSet(np.asarray(part.X), part.obs["tissue"].to_numpy()) for part in (train, validation)]
    return Yardsticks.fit(*parts, genes, COMPONENTS, CLASSIFIER)


@pytest.fixture(scope="module")
def yardsticks():
    return fitted(TRAIN, VALIDATION, TRAIN.var_names)


def test_profiles_are_measured_in_training_standard_deviations(yardsticks):
    row = yardsticks.measure(TRAIN, "tissue", "sample_type")
    np.testing.assert_array_equal(row.values, GeneScaler.fit(np.asarray(TRAIN.X))(np.asarray(TRAIN.X)))
    assert row.conditions[:4].tolist() == ["tumor", "normal", "normal", "tumor"]
    assert row.donors[:3].tolist() == ["0-0", "0-0", "0-1"]


def test_coordinates_and_features_are_those_of_the_two_frechet_distances(yardsticks):
    ours, theirs = (yardsticks.measure(part, "tissue") for part in (TEST, VALIDATION))
    axes = PrincipalAxes.fit(yardsticks.measure(TRAIN, "tissue").values, COMPONENTS)
    assert frechet(ours.coordinates, theirs.coordinates) == pytest.approx(
        frechet(axes(ours.values), axes(theirs.values))
    )
    assert ours.features.shape == (len(TEST), 16)


def test_profiles_without_donors_are_their_own(yardsticks):
    row = yardsticks.measure(draw(SIZES, 3, donors=False), "tissue")
    assert len(set(row.donors)) == len(row.values)
    assert row.conditions is None


def test_what_is_read_again_measures_the_same(yardsticks, tmp_path):
    yardsticks.save(tmp_path / "y")
    again = Yardsticks.load(tmp_path / "y")
    for ours, theirs in zip(yardsticks.measure(TEST, "tissue"), again.measure(TEST, "tissue"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert len(again.modules.members) == len(yardsticks.modules.members) > 1
    np.testing.assert_array_equal(again.modules.correlation, yardsticks.modules.correlation)
    np.testing.assert_array_equal(again.apart, yardsticks.apart)


def test_many_genes_and_no_modules_survive_the_disk_too(tmp_path):
    genes = [f"G{i}" for i in range(1100)]
    rng = np.random.default_rng(0)
    parts = [ProfileSet(rng.normal(size=(n, 1100)).astype(np.float32), np.repeat(["a", "b"], n // 2)) for n in (60, 20)]
    made = Yardsticks.fit(*parts, genes, 5, CLASSIFIER)
    assert made.modules is None
    made.save(tmp_path / "y")
    values = made.scaler(parts[1].values)
    np.testing.assert_array_equal(Yardsticks.load(tmp_path / "y").tissues(values), made.tissues(values))


def test_other_genes_are_refused(yardsticks):
    with pytest.raises(ValueError, match="the scorecard"):
        yardsticks.measure(TEST[:, : GENES - 1], "tissue")


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="no model at"):
        Yardsticks.load(tmp_path / "nothing")
