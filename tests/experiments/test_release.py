"""The report before a release: attacks by how much is released, classes, records at risk, the sentence."""

from __future__ import annotations

import numpy as np
import pytest
from test_learning_curves import draw

from transcriptome_diffusion.experiments.release import leverage, privacy_report, white_box
from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions
from transcriptome_diffusion.generators.reference_prior import fit_with_reference
from transcriptome_diffusion.metrics.profile_set import ProfileSet


@pytest.fixture(scope="module")
def parts():
    return draw(15, 1, "d"), draw(20, 2, "v"), draw(40, 3, "t"), draw(40, 4, "r", tissues=(2, 3, 4, 5))


@pytest.fixture(scope="module")
def reports(parts):
    train, validation, test, reference = parts
    options = ClassGaussianOptions()
    models = {"own": ClassGaussian.fit(train, validation, options)}
    for name, privacy in {
        "reference_axes": PrivacyOptions(dial="reference_axes", off_axes=1.0),
        "dp": PrivacyOptions(dial="dp", axes=20),
    }.items():
        models[name] = fit_with_reference(train, validation, options, reference, privacy, np.random.default_rng(0))
    sizes = (60, None)
    return {
        name: privacy_report(model, train, validation, test, reference=reference, released=sizes)
        for name, model in models.items()
    }


def test_the_own_covariance_gives_members_away_and_the_more_the_more_is_released(reports):
    table = reports["own"].attacks.set_index(["attack", "released"])["auc"]
    assert table["domias_gaussian", 300] > table["domias_gaussian", 60] - 0.03
    assert table["domias_gaussian"].max() > 0.9
    black_box = {"gan_leaks", "domias", "domias_gaussian", "known_axes"}
    assert set(reports["own"].attacks.dropna(subset="released")["attack"]) == black_box
    assert set(reports["own"].attacks["attack"]) == black_box | {"loss_attack"}


def test_reference_axes_hide_from_who_does_not_know_them_and_dp_from_all(reports):
    found = {name: report.attacks.groupby("attack")["auc"].max() for name, report in reports.items()}
    assert found["own"]["domias_gaussian"] > found["reference_axes"]["domias_gaussian"] + 0.1
    # class means of fifteen donors give much away to one who knows the axes; noise hides it
    assert found["reference_axes"]["known_axes"] > 0.75
    assert found["dp"].max() < 0.7


def test_who_has_the_model_finds_members_by_its_losses_and_held_out_donors_are_the_null(parts, reports):
    own, axes, dp = (
        report.attacks[report.attacks["released"].isna()].set_index("attack")["auc"] for report in reports.values()
    )
    assert own["loss_attack"] > 0.95 > axes["loss_attack"] > dp["loss_attack"]
    assert dp["loss_attack"] < 0.65
    assert f"Who has the model itself reaches {own['loss_attack']:.2f}" in reports["own"].sentence
    # donors that the model has not seen are no members
    train, validation, test, _ = parts
    model = ClassGaussian.fit(train, validation, ClassGaussianOptions())
    assert white_box(model, validation, test, "tissue")["loss_attack"]["loss_attack_auc"].value < 0.65


def test_every_class_is_there_and_the_record_far_from_all_others_is_most_at_risk(parts, reports):
    train = parts[0]
    assert list(reports["own"].by_class["class"]) == ["t0", "t1"]
    assert list(reports["own"].by_class["profiles"]) == [15, 15]
    far = dense(train).copy()
    far[7] += 6 * np.sign(np.random.default_rng(0).normal(size=far.shape[1]))
    moved = make_profiles(far, train.obs, train.var, train.uns["unit"])
    found = leverage(ProfileSet(far, train.obs["tissue"].to_numpy()))
    assert found.argmax() == 7
    assert ((found >= 0) & (found < 1)).all()
    model = ClassGaussian.fit(moved, parts[1], ClassGaussianOptions())
    report = privacy_report(model, moved, *parts[1:3], released=(60,))
    assert report.at_risk.loc[0, "record"] == 8  # counted from 1
    assert len(report.at_risk) == 10


def test_the_sentence_says_what_was_tried_and_what_is_proved(reports, tmp_path):
    assert "an AUC of" in reports["own"].sentence
    assert "differentially private" not in reports["own"].sentence
    assert "No bound is proved" in reports["reference_axes"].sentence
    assert "(8, 1e-05)-differentially private for one donor with all of their profiles" in reports["dp"].sentence
    folder = reports["dp"].write(tmp_path / "report")
    assert sorted(path.name for path in folder.iterdir()) == [
        "at_risk.csv",
        "attacks.csv",
        "by_class.csv",
        "sentence.md",
    ]


def test_too_few_donors_are_said_and_not_guessed(parts):
    train, validation, test, _ = parts
    model = ClassGaussian.fit(train, validation, ClassGaussianOptions())
    report = privacy_report(model, train, validation, test[:6].copy(), released=(60,))
    assert "10 of each are needed" in report.sentence
    assert report.at_risk.empty
