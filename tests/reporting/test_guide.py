"""The guide explains what the scorecard shows."""

import pytest

from transcriptome_diffusion.metrics.registry import METRICS
from transcriptome_diffusion.reporting.guide import GUIDE, explain, grouped, label


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_is_explained_where_the_guide_has_its_topic(metric):
    group, entry = explain(metric)
    assert GUIDE[group][METRICS[metric].topic] == entry


def test_a_classifier_s_name_is_no_part_of_a_topic_but_the_two_sample_tests_are_their_own():
    assert explain("macro_f1_mlp") == explain("macro_f1_logistic") == explain("macro_f1_mlp_augmented")
    assert explain("two_sample_logistic")[0] == "Classifier two-sample tests"
    assert explain("adversarial_accuracy")[1] != explain("accuracy_mlp")[1]
    assert explain("no_such_thing") is None


def test_groups_keep_the_guide_s_order_and_unknown_metrics_come_last():
    found = grouped(["mine", "wasserstein", "accuracy_mlp", "recall", "precision", "balanced_accuracy_mlp"])
    assert list(found) == ["Fidelity and diversity", "Distribution", "Use as training data", "Other"]
    assert found["Fidelity and diversity"] == ["precision", "recall"]
    assert found["Use as training data"] == ["accuracy_mlp", "balanced_accuracy_mlp"]
    assert found["Other"] == ["mine"]


def test_labels_read_well():
    assert label("balanced_accuracy_mlp_augmented") == "balanced accuracy, MLP, with real"
    assert label("two_sample_logistic") == "logistic, AUC"
    assert label("gan_leaks") == "gan leaks"
