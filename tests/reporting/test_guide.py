"""The guide explains what the scorecard shows."""

import pytest

from transcriptome_diffusion.metrics.privacy import INDICATORS
from transcriptome_diffusion.reporting.figures import ATTACKS
from transcriptome_diffusion.reporting.guide import GUIDE, explain, grouped, label
from transcriptome_diffusion.reporting.scorecard import HEADLINE


@pytest.mark.parametrize("metric", [m for names in HEADLINE.values() for m in names])
def test_every_headline_indicator_is_explained(metric):
    assert explain(metric)


@pytest.mark.parametrize(
    "metric", [*INDICATORS, *(f"{a}_{rate}" for a in ATTACKS for rate in ("auc", "tpr_10", "tpr_1"))]
)
def test_every_number_about_privacy_is_explained(metric):
    group, _ = explain(metric)
    assert group == "Copies and privacy"


def test_a_classifier_s_name_is_no_part_of_an_indicator_but_the_two_sample_tests_are_their_own():
    assert explain("macro_f1_mlp") == explain("macro_f1_logistic") == explain("macro_f1_mlp_augmented")
    assert explain("two_sample_logistic")[0] == "Told apart by a classifier"
    assert explain("adversarial_accuracy")[1] is not explain("accuracy_mlp")[1]
    assert explain("no_such_thing") is None


def test_groups_keep_the_guide_s_order_and_strangers_come_last():
    found = grouped(["mine", "wasserstein", "accuracy_mlp", "recall", "precision", "balanced_accuracy_mlp"])
    assert list(found) == ["Fidelity and diversity", "Distribution", "Use as training data", "Other"]
    assert found["Fidelity and diversity"] == ["precision", "recall"]
    assert found["Use as training data"] == ["accuracy_mlp", "balanced_accuracy_mlp"]
    assert found["Other"] == ["mine"]


def test_labels_read_well():
    assert label("balanced_accuracy_mlp_augmented") == "balanced accuracy, MLP, with real"
    assert label("two_sample_logistic") == "logistic, AUC"


def test_every_entry_says_what_it_is_how_to_read_it_and_what_it_cannot_tell():
    for entries in GUIDE.values():
        for name, entry in entries.items():
            assert all(text.endswith(".") for text in entry), name
