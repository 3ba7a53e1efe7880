import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, roc_auc_score

from transcriptome_diffusion.metrics import utility
from transcriptome_diffusion.metrics.distances import frechet
from transcriptome_diffusion.metrics.options import ClassifierOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.utility import (
    TissueFeatures,
    classification_scores,
    predict,
    reverse_validation,
    train_mlp,
    train_mlps,
)

TISSUES = np.array(["breast", "colon", "liver", "lung"])
QUICK = ClassifierOptions(hidden=[32], epochs=30, patience=5, seeds=[0, 1])


def profiles(n, seed, genes=40, apart=1.5, tissues=TISSUES):
    centres = np.random.default_rng(7).normal(size=(len(TISSUES), genes)) * apart / np.sqrt(genes / 10)
    rng = np.random.default_rng(seed)
    codes = rng.choice(np.flatnonzero(np.isin(TISSUES, tissues)), size=n)
    values = centres[codes] + rng.normal(size=(n, genes))
    return ProfileSet(values.astype(np.float32), TISSUES[codes])


@pytest.mark.parametrize("known", [4, 3], ids=["all classes known", "one unknown"])
def test_scores_are_those_of_scikit_learn(known):
    rng = np.random.default_rng(0)
    expected = rng.choice(TISSUES, 200, p=[0.6, 0.2, 0.1, 0.1])
    probabilities = rng.dirichlet(np.ones(4), 200) + 0.5 * (expected[:, None] == TISSUES)
    probabilities[:, known:] = 0
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    predicted = TISSUES[probabilities.argmax(axis=1)]
    found = classification_scores(probabilities[:, :known], TISSUES[:known], expected)
    assert found == pytest.approx(
        {
            "accuracy": accuracy_score(expected, predicted),
            "balanced_accuracy": balanced_accuracy_score(expected, predicted),
            "macro_f1": f1_score(expected, predicted, average="macro"),
            "auroc": roc_auc_score(expected, probabilities, multi_class="ovr", average="macro"),
        }
    )


def test_one_class_among_the_expected_has_no_auroc():
    assert np.isnan(classification_scores(np.eye(4), TISSUES, np.repeat("liver", 4))["auroc"])


@pytest.mark.parametrize("genes", [40, 2000])
def test_real_profiles_as_training_set_reach_the_best_possible_accuracy(genes):
    parts = [profiles(n, seed, genes, apart=4) for n, seed in ((200, 0), (60, 1), (300, 2))]
    scores = reverse_validation(*parts, QUICK)
    assert {name: len(runs) for name, runs in scores.items()} == {
        f"{metric}_{classifier}": runs
        for classifier, runs in (("mlp", 2), ("logistic", 1))
        for metric in ("accuracy", "balanced_accuracy", "macro_f1", "auroc")
    }
    assert min(min(runs) for runs in scores.values()) > 0.97


def test_stochastic_gradient_descent_learns_as_well_with_the_papers_rate():
    sgd = QUICK.model_copy(update={"optimizer": "sgd", "learning_rate": 1.25e-2, "seeds": [0], "batch_size": 8})
    parts = [profiles(n, seed, apart=4) for n, seed in ((200, 0), (60, 1), (300, 2))]
    assert reverse_validation(*parts, sgd)["accuracy_mlp"][0] > 0.97


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_first_step_is_the_gradient_for_sgd_and_its_sign_for_adam(optimizer):
    train, nobody = profiles(64, 0), np.empty((0, 40), np.float32)
    codes = np.searchsorted(TISSUES, train.labels)
    once = {"optimizer": optimizer, "epochs": 1, "batch_size": 64, "dropout": 0, "weight_decay": 0}
    weights = []
    for rate in (1e-9, 1e-2):
        chosen = QUICK.model_copy(update={**once, "learning_rate": rate})
        weights.append(train_mlp(train.values, codes, nobody, np.empty(0, int), 4, chosen, 0)[-1].weight.detach())
    change = (weights[1] - weights[0]).abs() / 1e-2
    assert bool((change > 0.99).float().mean() > 0.9) == (optimizer == "adamw")


def test_a_device_that_is_not_there_is_named():
    parts = [profiles(20, seed) for seed in range(3)]
    with pytest.raises(ValueError, match="device 'mps' is not available here"):
        reverse_validation(*parts, QUICK.model_copy(update={"device": "mps"}))


def test_labels_without_meaning_bring_accuracy_to_chance():
    train, validation, test = (profiles(n, seed, apart=1) for n, seed in ((200, 0), (40, 1), (400, 2)))
    brief = QUICK.model_copy(update={"epochs": 1, "seeds": [0]})
    found = []
    for seed in range(20):
        shuffled = ProfileSet(train.values, np.random.default_rng(seed).permutation(train.labels))
        found += reverse_validation(shuffled, validation, test, brief)["balanced_accuracy_logistic"]
    # one run has a deviation of about .1: few classes, and errors that go together within a class
    assert np.mean(found) == pytest.approx(1 / 4, abs=0.07)


def test_a_drifted_generator_costs_accuracy():
    train, validation, test = (profiles(n, seed, apart=1) for n, seed in ((300, 0), (80, 1), (400, 2)))
    drift = np.random.default_rng(4).normal(size=(4, 40))[np.searchsorted(TISSUES, train.labels)]
    drifted = ProfileSet(train.values + drift, train.labels)
    good, bad = (reverse_validation(t, validation, test, QUICK) for t in (train, drifted))
    assert good["accuracy_logistic"][0] > bad["accuracy_logistic"][0] + 0.05
    assert np.mean(good["accuracy_mlp"]) > np.mean(bad["accuracy_mlp"]) + 0.05


def test_a_class_the_generator_never_makes_costs_its_share_of_the_test_set():
    train = profiles(200, 0, apart=6, tissues=TISSUES[:3])
    validation, test = profiles(60, 1, apart=6), profiles(400, 2, apart=6)
    scores = reverse_validation(train, validation, test, QUICK)
    assert scores["accuracy_logistic"][0] == pytest.approx((test.labels != "lung").mean(), abs=0.02)
    assert scores["balanced_accuracy_mlp"] == pytest.approx([0.75, 0.75], abs=0.02)


def test_validation_without_any_known_class_is_no_obstacle():
    train, test = (profiles(n, s, apart=6, tissues=TISSUES[:2]) for n, s in ((100, 0), (100, 2)))
    scores = reverse_validation(train, profiles(40, 1, tissues=TISSUES[2:]), test, QUICK)
    assert min(scores["accuracy_mlp"]) > 0.97


def test_the_projection_keeps_distances_and_the_logistic_regression(monkeypatch):
    monkeypatch.setattr(utility, "MAX_INPUTS", 100)
    train, test = profiles(80, 0, 300, apart=1.5), profiles(500, 1, 300, apart=1.5)
    project = utility._projection(train.values)
    inputs = project(train.values)
    assert inputs.shape == (80, 79)
    np.testing.assert_allclose(inputs @ inputs.T, _gram(train.values), atol=2e-3)
    codes = np.searchsorted(TISSUES, train.labels)
    ours = utility._logistic(inputs, codes, project(test.values), 1.0).argmax(axis=1)
    direct = LogisticRegression(C=1.0, max_iter=5000).fit(train.values, codes).predict(test.values)
    assert (ours == direct).mean() > 0.99


def _gram(values):
    centred = values - values.mean(axis=0)
    return centred @ centred.T


def test_the_projection_is_capped_at_the_leading_components(monkeypatch):
    monkeypatch.setattr(utility, "MAX_INPUTS", 40)
    train = profiles(80, 0, 300)
    inputs = utility._projection(train.values)(train.values)
    leading = np.linalg.eigvalsh(_gram(train.values.astype(float)))[-40:].sum()
    assert inputs.shape == (80, 40)
    assert np.square(inputs).sum() == pytest.approx(leading, rel=1e-4)
    # the random basis spreads the variance over the inputs
    assert inputs.var(axis=0).max() < 5 * inputs.var(axis=0).min()


def test_many_profiles_are_projected_on_randomised_axes_and_classified_as_on_exact_ones(monkeypatch):
    monkeypatch.setattr(utility, "MAX_INPUTS", 60)
    train, test = profiles(900, 0, 800, apart=1.5), profiles(400, 1, 800, apart=1.5)
    codes = np.searchsorted(TISSUES, train.labels)

    def classified(project):
        return utility._logistic(project(train.values), codes, project(test.values), 1.0).argmax(axis=1)

    project = utility._projection(train.values)
    inputs = project(train.values)
    assert inputs.shape == (900, 60)
    assert inputs.dtype == np.float32
    centre = train.values.mean(axis=0)
    _, singular, axes = np.linalg.svd((train.values - centre).astype(float), full_matrices=False)
    assert np.square(inputs).sum() == pytest.approx(np.square(singular[:60]).sum(), rel=0.15)
    exactly = classified(lambda values: (values - centre) @ axes[:60].T)
    found, right = classified(project), np.searchsorted(TISSUES, test.labels)
    assert (found == right).mean() == pytest.approx((exactly == right).mean(), abs=0.03)
    assert (exactly != found).mean() < 0.05


def test_seeds_decide_and_the_callers_random_state_is_left_alone():
    parts = [profiles(n, seed, apart=1) for n, seed in ((150, 0), (60, 1), (300, 2))]
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, again = reverse_validation(*parts, QUICK), reverse_validation(*parts, QUICK)
    assert first == again
    assert first["accuracy_mlp"][0] != first["accuracy_mlp"][1]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_predictions_are_probabilities_and_the_scores_are_theirs():
    train, validation, test = (profiles(n, seed, apart=1) for n, seed in ((150, 0), (60, 1), (300, 2)))
    classes, predicted = predict(train, validation, test, QUICK)
    assert classes.tolist() == TISSUES.tolist()
    assert [len(runs) for runs in predicted.values()] == [2, 1]
    for probabilities in (*predicted["mlp"], *predicted["logistic"]):
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    scores = reverse_validation(train, validation, test, QUICK)
    found = classification_scores(predicted["mlp"][1], classes, test.labels)
    assert {name: scores[f"{name}_mlp"][1] for name in found} == found


def test_real_profiles_beside_synthetic_ones_help_where_these_have_drifted():
    """Train on real plus synthetic is a plain call."""
    real, validation, test = (profiles(n, seed, apart=1) for n, seed in ((120, 0), (80, 1), (400, 2)))
    drift = np.random.default_rng(4).normal(size=(4, 40))
    made = profiles(200, 3, apart=1)
    made = ProfileSet((made.values + drift[np.searchsorted(TISSUES, made.labels)]).astype(np.float32), made.labels)
    both = ProfileSet(*(np.concatenate(pair) for pair in zip(real[:2], made[:2], strict=True)))
    alone, together = (reverse_validation(part, validation, test, QUICK) for part in (made, both))
    assert together["auroc_logistic"][0] > alone["auroc_logistic"][0] + 0.05


@pytest.mark.parametrize("genes", [40, 1200])
def test_tissue_features_are_the_last_hidden_layer_and_tell_tissues_apart(genes):
    train, validation, test = (profiles(n, seed, genes, apart=4) for n, seed in ((200, 0), (60, 1), (200, 2)))
    features = TissueFeatures.fit(train, validation, QUICK)
    ours = features(test.values)
    assert ours.shape == (200, 32)
    assert ours.min() == 0  # behind a ReLU
    np.testing.assert_array_equal(ours, TissueFeatures.fit(train, validation, QUICK)(test.values))
    fresh, liver = features(profiles(200, 5, genes, apart=4).values), ours[test.labels == "liver"]
    assert frechet(ours, fresh) < 0.2 * frechet(ours, liver)


def test_the_best_validation_epoch_is_kept():
    """Validation labels are permuted: each epoch makes them worse, so that the first is the best."""
    train, validation = profiles(200, 0, apart=4), profiles(100, 1, apart=4)
    codes, wrong = (np.searchsorted(TISSUES, part.labels) for part in (train, validation))
    wrong = (wrong + 1) % 4
    many, one = (
        train_mlp(train.values, codes, validation.values, wrong, 4, QUICK.model_copy(update={"epochs": epochs}), 0)
        for epochs in (30, 1)
    )
    assert all(torch.equal(a, b) for a, b in zip(many.parameters(), one.parameters(), strict=True))


def test_a_network_does_not_depend_on_those_that_are_trained_beside_it():
    train, validation = profiles(150, 0, apart=1), profiles(60, 1, apart=1)
    codes, others = (np.searchsorted(TISSUES, part.labels) for part in (train, validation))
    data = (train.values, codes, validation.values, others, 4, QUICK.model_copy(update={"patience": 2}))
    together = train_mlps(*data, [0, 1, 2])
    for seed, network in enumerate(together):
        alone = train_mlp(*data, seed)
        for ours, its in zip(network.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(ours, its, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0][0].weight, together[1][0].weight, atol=1e-2)


def test_a_diverged_network_is_returned_as_it_is():
    train, codes = np.full((40, 3), np.nan, np.float32), np.arange(40) % 4  # so that no validation loss is a number
    (network,) = train_mlps(train, codes, train, codes, 4, QUICK, [0])
    assert network[0].weight.isnan().all()


def test_training_ends_once_the_validation_loss_hardly_falls(monkeypatch):
    train, validation = profiles(200, 0, apart=2), profiles(100, 1, apart=2)
    codes, others = (np.searchsorted(TISSUES, part.labels) for part in (train, validation))

    def trained(epochs, min_decrease):
        monkeypatch.setattr(utility, "MIN_DECREASE", min_decrease)
        options = QUICK.model_copy(update={"epochs": epochs, "patience": 4})
        return list(train_mlp(train.values, codes, validation.values, others, 4, options, 0).parameters())

    brief, ended, long = trained(5, 0.0), trained(30, 100.0), trained(30, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(brief, ended, strict=True))
    assert not torch.equal(ended[0], long[0])


def test_few_profiles_of_many_genes_are_projected_and_many_are_not():
    values = profiles(60, 0, genes=200).values
    assert utility._projection(values)(values).shape == (60, 59)
    assert utility._projection(values[:, :80]).axes is None
    assert utility._projection(np.ones_like(values)).axes is None  # nothing spans a space


def test_one_class_is_chance_among_several_and_nothing_alone():
    several = profiles(50, 0)
    name = several.labels[0]
    one = ProfileSet(several.values, np.repeat(name, 50))
    found = reverse_validation(one, several, several, QUICK)
    assert found["accuracy_mlp"] == [(several.labels == name).mean()] * len(QUICK.seeds)
    assert found["balanced_accuracy_logistic"] == [1 / len(set(several.labels))]
    assert np.isnan(reverse_validation(one, one, one, QUICK)["accuracy_mlp"]).all()
    features = TissueFeatures.fit(one, one, QUICK)(several.values)
    assert features.shape == (50, 0)
    assert np.isnan(frechet(features, features))


def test_what_cannot_be_used_is_refused():
    good = profiles(50, 0)
    with pytest.raises(ValueError, match="test has 39 genes"):
        reverse_validation(good, good, ProfileSet(good.values[:, 1:], good.labels), QUICK)
    with pytest.raises(ValueError, match="validation: expected one label per profile"):
        reverse_validation(good, ProfileSet(good.values, good.labels[1:]), good, QUICK)
    spoilt = good.values.copy()
    spoilt[0, 0] = np.inf
    with pytest.raises(ValueError, match="train holds NaN"):
        reverse_validation(ProfileSet(spoilt, good.labels), good, good, QUICK)
