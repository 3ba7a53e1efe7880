import json

import numpy as np
import pytest
import torch
from toy_cohort import cohort, fitted, panel

from transcriptome_diffusion.artefacts import ArtefactError
from transcriptome_diffusion.options import TrainingOptions
from transcriptome_diffusion.reconstruction.linear import RidgeReconstructor
from transcriptome_diffusion.reconstruction.mlp import MLPReconstructor, Perceptron, Regression
from transcriptome_diffusion.reconstruction.options import MLPOptions, RidgeOptions

SHORT = TrainingOptions(max_steps=150, validate_every=10, batch_size=64, learning_rate=3e-3, device="cpu")


def bent(n, seed):
    """Targets that follow the size of factors but not their sign: nothing that is linear in the landmarks."""
    profiles = cohort(n, seed=seed)
    targets = ~profiles.var["is_landmark"].to_numpy()
    profiles.X[:, targets] = np.abs(panel(profiles).X[:, :4] - 6) @ np.random.default_rng(3).normal(size=(4, 40)) + 9
    return profiles


def options(**changes):
    return MLPOptions(**{"hidden": [64, 32], "dropout": 0.0, "training": SHORT, **changes})


def test_it_learns_what_no_line_can():
    train, validation, test = bent(600, 0), bent(60, 1), bent(200, 2)
    mlp = fitted(MLPReconstructor, train, options(), validation)
    ridge = fitted(RidgeReconstructor, train, RidgeOptions(), validation)
    targets = mlp.targets
    total = np.square(test.X - test.X.mean(axis=0))[:, targets].sum()
    mlp_r2, ridge_r2 = (
        1 - np.square(m.reconstruct(panel(test)).X - test.X)[:, targets].sum() / total for m in (mlp, ridge)
    )
    assert ridge_r2 < 0.2
    assert mlp_r2 > 0.7
    assert mlp.record["curve"][-1]["train_loss"] < mlp.record["curve"][0]["train_loss"]


def test_the_loss_is_the_squared_error_in_training_deviations():
    train = cohort(40)
    model = fitted(MLPReconstructor, train, options(training=SHORT.model_copy(update={"max_steps": 1})))
    targets = np.flatnonzero(model.targets)
    constants = {
        "input_mean": model.inputs.mean,
        "input_scale": model.inputs.scale,
        "output_mean": model.outputs.mean,
        "output_scale": model.outputs.scale,
        "targets": targets,
    }
    regression = Regression(model.network, {name: torch.from_numpy(value) for name, value in constants.items()}).eval()
    landmarks = panel(train)
    loss = regression.validation_loss((torch.from_numpy(landmarks.X), torch.from_numpy(train.X)))
    error = (model.reconstruct(landmarks).X - train.X)[:, targets] / model.outputs.scale
    assert loss.item() == pytest.approx(np.square(error).mean(), rel=1e-4)


def test_the_same_seed_trains_the_same_network_and_leaves_torch_alone():
    train, test = cohort(40), panel(cohort(5, seed=1))
    torch.manual_seed(11)
    before = torch.get_rng_state()
    short = options(dropout=0.3, training=SHORT.model_copy(update={"max_steps": 5}))
    models = [fitted(MLPReconstructor, train, short.model_copy(update={"seed": seed})) for seed in (0, 0, 1)]
    found = [model.reconstruct(test).X for model in models]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_training_stops_when_validation_donors_gain_nothing():
    train, validation = cohort(40), cohort(20, seed=1)
    rng = np.random.default_rng(0)
    targets = ~train.var["is_landmark"].to_numpy()
    for profiles in (train, validation):  # nothing to learn but noise
        profiles.X[:, targets] = 5 + rng.normal(size=(profiles.n_obs, targets.sum()))
    model = fitted(MLPReconstructor, train, options(training=SHORT.model_copy(update={"patience": 2})), validation)
    assert "no gain on validation donors" in model.record["stopped"]
    assert model.record["steps"] < SHORT.max_steps
    assert model.record["best_step"] == model.record["steps"] - 2 * SHORT.validate_every


@pytest.mark.parametrize(("landmarks", "targets", "parameters"), [(974, 17_717, 84_091_189), (978, 19_553, 91_617_377)])
def test_the_papers_shape_has_the_size_of_the_papers(landmarks, targets, parameters):
    options = MLPOptions(hidden=[1024, 2048, 4096], dropout=0.5)
    with torch.device("meta"):
        network = Perceptron(landmarks, targets, options)
    assert sum(p.numel() for p in network.parameters()) == parameters


def test_the_papers_shape_is_a_matter_of_options():
    network = Perceptron(30, 70, options(hidden=[1024, 2048, 4096], dropout=0.5))
    widths = [layer.out_features for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [1024, 2048, 4096, 70]
    kinds = [type(layer).__name__ for layer in network.hidden[:4]]
    assert kinds == ["DenseLayer", "BatchNorm1d", "ReLU", "Dropout"]
    assert network.hidden[3].p == 0.5
    plain = Perceptron(30, 70, options(batch_norm=False))
    assert not [layer for layer in plain.modules() if isinstance(layer, torch.nn.BatchNorm1d)]


def test_weights_that_do_not_fit_the_settings_are_refused(tmp_path):
    model = fitted(MLPReconstructor, cohort(40), options(training=SHORT.model_copy(update={"max_steps": 1})))
    model.save(tmp_path / "mlp")
    description = json.loads((tmp_path / "mlp" / "model.json").read_text())
    description["settings"]["hidden"] = [64, 33]
    (tmp_path / "mlp" / "model.json").write_text(json.dumps(description))
    with pytest.raises(ArtefactError, match="do not fit the settings"):
        MLPReconstructor.load(tmp_path / "mlp")
