"""The denoiser's scaling and loss, what the network adds to its Gaussian, and sampling through the model."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.diffusion.denoiser import Denoiser, NoiseSchedule, StraightLine
from transcriptome_diffusion.generators.diffusion.model import DenoisingGenerator, Diffusion, FlowMatching
from transcriptome_diffusion.generators.diffusion.precondition import Preconditioner
from transcriptome_diffusion.generators.options import (
    DiffusionOptions,
    FlowMatchingOptions,
    LineSamplerOptions,
    SamplerOptions,
)
from transcriptome_diffusion.generators.runs import training_facts

TINY: dict[str, Any] = {
    "marginal_map": False,
    "network": {"width": 16, "depth": 1, "dropout": 0.1, "embedding_dim": 8},
    "training": {"max_steps": 20, "validate_every": 10, "batch_size": 64, "precision": "float32"},
    "sampler": {"steps": 10},
}


def profiles(values: np.ndarray, tissue: list[str] | None = None) -> ad.AnnData:
    names = [f"g{i}" for i in range(values.shape[1])]
    obs = pd.DataFrame({"tissue": tissue or ["liver"] * len(values)}, index=[f"s{i}" for i in range(len(values))])
    return make_profiles(values, obs, pd.DataFrame(index=names), "log2(FPKM + 1)")


def two_humps(n: int, seed: int) -> ad.AnnData:
    """One tissue in which all genes are 7 or 13 together, with little noise: far from a Gaussian."""
    rng = np.random.default_rng(seed)
    side = rng.choice([-3.0, 3.0], size=(n, 1))
    return profiles(10 + side + 0.3 * rng.normal(size=(n, 4)))


def two_shapes(n: int, seed: int) -> ad.AnnData:
    """Liver has the two humps, lung one of the same variance: they differ in shape alone."""
    found = two_humps(n, seed)
    lung = np.arange(n) % 2 == 1
    rng = np.random.default_rng(seed + 100)
    found.X[lung] = 10 + 3 * rng.normal(size=(lung.sum(), 1)) + 0.3 * rng.normal(size=(lung.sum(), 4))
    found.obs["tissue"] = np.where(lung, "lung", "liver")
    return found


def denoiser_of(settings: dict[str, Any]) -> Denoiser:
    options = DiffusionOptions.model_validate({**TINY, **settings})
    return Denoiser(options, NoiseSchedule(options.schedule, options.times), 6, [2], None)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0"])
@torch.no_grad()
def test_the_loss_of_a_network_that_says_zero_is_the_targets_second_moment(prediction: str) -> None:
    denoiser = denoiser_of({"prediction": prediction})
    generator = torch.Generator().manual_seed(0)
    u = 2 * torch.randn(50_000, 6, generator=generator)
    level = denoiser.path.at(torch.full((len(u),), 400))
    codes = torch.zeros(len(u), 1, dtype=torch.int64)
    loss = denoiser.loss(u, codes, level, torch.randn(u.shape, generator=generator))
    a2 = float(denoiser.path.alpha_bar[400])
    expected = {"eps": 1.0, "x0": 4.0, "v": a2 * 1.0 + (1 - a2) * 4.0}[prediction]
    assert float(loss) == pytest.approx(expected, rel=0.02)


def test_the_loss_is_the_error_of_the_x0_estimate_in_units_of_scale() -> None:
    denoiser = denoiser_of({"prediction": "eps"})
    torch.nn.init.normal_(denoiser.network.out.weight)
    denoiser.eval()
    u, noise, codes = torch.randn(3, 6), torch.randn(3, 6), torch.tensor([[0], [1], [1]])
    level = denoiser.path.at(torch.tensor([1, 500, 900]))
    x_t = level.signal * u + level.noise * noise
    implied_noise = (x_t - level.signal * denoiser(x_t, level, codes)) / level.noise
    expected = (implied_noise - noise).square().mean()
    torch.testing.assert_close(denoiser.loss(u, codes, level, noise), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prediction", ["velocity", "residual"])
def test_the_loss_of_flow_matching_is_the_error_of_the_velocity(prediction: str) -> None:
    options = FlowMatchingOptions.model_validate({**TINY, "prediction": prediction, "sampler": {}})
    rng = np.random.default_rng(0)
    preconditioner = None
    if prediction == "residual":
        z, codes_of_z = rng.normal(size=(80, 6)) * np.arange(1, 7), rng.integers(0, 2, (80, 1))
        preconditioner, _ = Preconditioner.fit(z, codes_of_z, [2], np.arange(80))
    denoiser = Denoiser(options, StraightLine(options.times), 6, [2], preconditioner)
    torch.nn.init.normal_(denoiser.network.out.weight, std=0.1)
    denoiser.eval()
    u, noise, codes = torch.randn(3, denoiser.width), torch.randn(3, denoiser.width), torch.tensor([[0], [1], [1]])
    level = denoiser.path.at(torch.tensor([0.05, 0.5, 1.0]))
    x_t = level.signal * u + level.noise * noise
    velocity = (x_t - denoiser(x_t, level, codes)) / level.noise
    weight = 1.0 if preconditioner is None else preconditioner.weight
    expected = (weight * (velocity - (noise - u)).square()).mean()
    torch.testing.assert_close(denoiser.loss(u, codes, level, noise), expected, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_validation_loss_repeats_itself_and_draws_nothing_from_outside() -> None:
    denoiser = denoiser_of({"prediction": "v"}).eval()
    batch = (torch.randn(30, 6), torch.zeros(30, 1, dtype=torch.int64))
    before = torch.get_rng_state()
    assert float(denoiser.validation_loss(batch)) == float(denoiser.validation_loss(batch))
    assert torch.equal(torch.get_rng_state(), before)


HUMPS: dict[str, Any] = {
    "marginal_map": False,
    "network": {"width": 64, "depth": 2, "embedding_dim": 32, "dropout": 0.0},
    "training": {**TINY["training"], "max_steps": 300, "validate_every": 50, "learning_rate": 3e-3},
}


@pytest.fixture(scope="module")
def humps() -> Diffusion:
    return Diffusion.fit(two_humps(600, 0), two_humps(200, 1), DiffusionOptions.model_validate(HUMPS))


@pytest.fixture(scope="module")
def flowing_humps() -> FlowMatching:
    return FlowMatching.fit(two_humps(600, 0), two_humps(200, 1), FlowMatchingOptions.model_validate(HUMPS))


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm_solver", "euler", "midpoint"])
def test_the_network_learns_what_no_gaussian_can_say(humps: Diffusion, flowing_humps: FlowMatching, name: str) -> None:
    labels = pd.DataFrame({"tissue": ["liver"] * 2000})
    if name in ("euler", "midpoint"):
        drawn = flowing_humps.sample(labels, 0, sampler=LineSamplerOptions(method=name, intervals=50))
    else:
        drawn = humps.sample(labels, 0, sampler=SamplerOptions(name=name, steps=50))
    drawn = drawn.X.mean(1) - 10
    # a Gaussian of the same variance would lay 38 % of its draws between the humps, within 1.5 of the middle
    assert np.mean(np.abs(drawn) < 1.5) < 0.08
    assert np.mean(drawn > 0) == pytest.approx(0.5, abs=0.12)
    assert np.abs(drawn).mean() == pytest.approx(3, abs=0.35)


def test_training_improves_on_the_gaussian_and_the_record_says_so(humps: Diffusion) -> None:
    record = humps.record
    assert [point["step"] for point in record["curve"]] == [50, 100, 150, 200, 250, 300]
    assert record["best_validation_loss"] == min(point["validation_loss"] for point in record["curve"])
    assert record["best_validation_loss"] < 0.9  # the Gaussian's own loss is one


def test_samples_bear_the_samplers_name_and_settings(humps: Diffusion) -> None:
    sampler = SamplerOptions(name="ddim", steps=3)
    drawn = humps.sample(pd.DataFrame({"tissue": ["liver"] * 2}), 4, sampler=sampler)
    assert drawn.uns["generator"]["name"] == "ddim"
    assert drawn.uns["generator"]["sampler"]["steps"] == 3
    assert list(drawn.obs_names) == ["ddim-0", "ddim-1"]


def test_progress_counts_every_evaluation_of_every_batch(humps: Diffusion) -> None:
    seen: list[tuple[int, int]] = []

    def progress(done: int, of: int) -> None:
        seen.append((done, of))

    labels = pd.DataFrame({"tissue": ["liver"] * 5})
    humps.sample(labels, 0, batch_size=2, sampler=SamplerOptions(steps=4), progress=progress)
    assert seen == [(i, 12) for i in range(1, 13)]


def two_tissues(n: int, seed: int) -> ad.AnnData:
    """Two tissues whose means lie 8 apart in every gene, with noise of deviation 1."""
    values = np.random.default_rng(seed).normal(size=(2 * n, 5)) + np.repeat([[6.0], [14.0]], n, axis=0)
    return profiles(values, ["liver"] * n + ["brain"] * n)


@pytest.mark.parametrize("prediction", ["v", "residual", "velocity", "flow residual"])
def test_the_trajectory_starts_without_classes_and_ends_at_what_sample_draws(prediction: str) -> None:
    family = FlowMatching if prediction in ("velocity", "flow residual") else Diffusion
    settings = {**HUMPS, "prediction": prediction.removeprefix("flow "), "scaling": "standard"}
    # a residual denoiser has the tissues' means before it is trained
    steps = 60 if "residual" in prediction else 200
    settings["training"] = {**HUMPS["training"], "max_steps": steps, "validate_every": steps // 2}
    if family is Diffusion:
        settings["sampler"] = {"name": "ddim", "steps": 50}
    model = family.fit(two_tissues(150, 0), two_tissues(60, 1), family.options.model_validate(settings))
    labels = pd.DataFrame({"tissue": ["liver"] * 300 + ["brain"] * 300})
    states = model.trajectory(labels, 3, at=(1.0, 0.5, 0.0))
    assert list(states) == [1.0, 0.5, 0.0]
    np.testing.assert_array_equal(states[0.0].X, model.sample(labels, 3).X)
    apart = {share: float(np.abs(s.X[:300].mean(0) - s.X[300:].mean(0)).mean()) for share, s in states.items()}
    assert apart[1.0] < 0.12 * apart[0.0]  # the last signal of a discrete schedule is not quite 0
    signal = states[0.5].uns["generator"]["signal"]
    assert apart[0.5] == pytest.approx(signal * apart[0.0], rel=0.15)
    assert states[0.5].uns["generator"]["time"] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("settings", [{"network": {"kind": "paper", "width": 16}}, {"scaling": "linear_max_abs"}])
@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "residual"])
def test_every_network_scaling_and_target_trains_and_samples_finite_values(
    settings: dict[str, Any], prediction: str
) -> None:
    options = DiffusionOptions.model_validate({**TINY, **settings, "prediction": prediction})
    model = Diffusion.fit(two_humps(100, 0), two_humps(40, 1), options)
    drawn = model.sample(pd.DataFrame({"tissue": ["liver"] * 3}), 0)
    assert np.isfinite(drawn.X).all()


DIVERGED = {"steps": {"max_steps": 1}, "rate": {"max_steps": 5, "learning_rate": 0.9, "gradient_clip": None}}


@pytest.mark.parametrize("diverged", DIVERGED)
@pytest.mark.parametrize("network", ["film", "paper"])
@pytest.mark.parametrize(
    ("family", "prediction"),
    [(Diffusion, p) for p in ("eps", "v", "x0", "residual")] + [(FlowMatching, p) for p in ("velocity", "residual")],
)
def test_few_steps_of_a_hardly_trained_model_stay_finite_and_in_range(
    family: type[DenoisingGenerator], prediction: str, network: str, diverged: str
) -> None:
    train = two_humps(100, 0)
    settings = {"network": {"kind": network, "width": 16}, "prediction": prediction}
    training = {**TINY["training"], **DIVERGED[diverged], "keep": "last"}
    model = family.fit(train, two_humps(40, 1), family.options.model_validate({**settings, "training": training}))
    low, high = float(train.X.min()), float(train.X.max())
    samplers: list[Any] = [LineSamplerOptions(method=m, intervals=3) for m in ("euler", "midpoint")]
    if family is Diffusion:
        samplers = [SamplerOptions(name=n, steps=s) for n in ("ddpm", "ddim", "dpm_solver") for s in (2, 5)]
    for sampler in samplers:
        drawn = model.sample(pd.DataFrame({"tissue": ["liver"] * 200}), 0, sampler=sampler).X
        # one range on either side: the residual denoiser clips coordinates on principal axes, not genes
        assert low - (high - low) < drawn.min()
        assert drawn.max() < high + (high - low)


def test_an_undertrained_model_is_named_and_a_trained_one_is_not(
    humps: Diffusion, caplog: pytest.LogCaptureFixture
) -> None:
    labels, sampler = pd.DataFrame({"tissue": ["liver"] * 200}), SamplerOptions(name="ddim", steps=10)
    humps.sample(labels, 0, sampler=sampler)
    assert "undertrained" not in caplog.text
    options = DiffusionOptions.model_validate({**TINY, "prediction": "eps", "training": {"max_steps": 1}})
    Diffusion.fit(two_humps(100, 0), two_humps(40, 1), options).sample(labels, 0, sampler=sampler)
    assert "ddim: " in caplog.text
    assert "undertrained" in caplog.text


@pytest.mark.parametrize(
    ("block", "value"),
    [
        ({"network": {"width": 0}}, "width"),
        ({"network": {"dropout": 1.0}}, "dropout"),
        ({"schedule": {"timesteps": 0}}, "timesteps"),
        ({"training": {"learning_rate": 0}}, "learning_rate"),
        ({"training": {"max_steps": 0}}, "max_steps"),
        ({"sampler": {"steps": 0}}, "steps"),
        ({"prediction": "score"}, "prediction"),
        ({"networks": {}}, "networks"),
    ],
)
def test_impossible_options_are_refused_by_name(block: dict[str, Any], value: str) -> None:
    with pytest.raises(ValidationError, match=value):
        DiffusionOptions.model_validate(block)


def test_the_record_says_what_the_automatic_sizes_were() -> None:
    settings = {**TINY, "network": {**TINY["network"], "width": "auto"}, "training": {**TINY["training"]}}
    model = Diffusion.fit(two_humps(40, 0), two_humps(20, 1), DiffusionOptions.model_validate(settings))
    expected = {"network.width": 128, "components_per_sample": 0.4, "training.weight_decay": 0.007}
    assert model.record["automatic_sizes"] == expected
    assert model.settings["network"]["width"] == 128
    assert model.denoiser.network.into.out_features == 128


@pytest.fixture(scope="module", params=[Diffusion, FlowMatching])
def unlabelled(request: pytest.FixtureRequest) -> DenoisingGenerator:
    """A model that has also seen profiles without their label."""
    family: type[DenoisingGenerator] = request.param
    training = {**HUMPS["training"], "max_steps": 100}
    settings = {"label_dropout": 0.3, "network": HUMPS["network"], "training": training}
    return family.fit(two_shapes(200, 0), two_shapes(100, 1), family.options.model_validate(settings))


def test_guidance_exaggerates_what_the_label_changes(unlabelled: DenoisingGenerator) -> None:
    labels = pd.DataFrame({"tissue": ["liver"] * 50})
    sampler = unlabelled._sampler()
    without, plain, guided, again = (
        unlabelled.sample(labels, 4, sampler=sampler.model_copy(update={"guidance": guidance})).X
        for guidance in (0.0, 1.0, 2.0, 2.0)
    )
    np.testing.assert_array_equal(guided, again)
    np.testing.assert_array_equal(plain, unlabelled.sample(labels, 4).X)
    assert np.abs(guided - plain).max() > 1e-3
    # to first order, as far beyond the labelled profiles as those are from the unlabelled ones
    assert ((guided - plain) * (plain - without)).sum() > 0


def test_guidance_with_full_weight_on_the_label_is_the_labelled_network(unlabelled: DenoisingGenerator) -> None:
    denoiser, generator = unlabelled.denoiser, torch.Generator().manual_seed(0)
    x, codes = torch.randn(8, denoiser.width, generator=generator), torch.zeros(8, 1, dtype=torch.int64)
    level = denoiser.path.at(denoiser.path.along(torch.full((8,), 0.5)))
    network = denoiser.guided(1.0 + 1e-9)
    with torch.no_grad():
        torch.testing.assert_close(
            denoiser.parts(x, level, codes, network).output, denoiser.parts(x, level, codes).output
        )
        unknown = denoiser.no_label.expand_as(codes)
        guided, labelled, without = (
            denoiser.parts(x, level, codes, denoiser.guided(3.0)).output,
            denoiser.parts(x, level, codes).output,
            denoiser.parts(x, level, unknown).output,
        )
    torch.testing.assert_close(guided, without + 3 * (labelled - without), rtol=1e-4, atol=1e-5)


def test_guidance_of_a_model_that_always_saw_labels_is_refused(humps: Diffusion) -> None:
    with pytest.raises(ValueError, match=r"guidance. is 2.*label_dropout"):
        humps.sample({"liver": 2}, sampler=SamplerOptions(guidance=2.0))


def test_a_model_with_label_dropout_is_saved_with_its_entry_for_no_label(
    unlabelled: DenoisingGenerator, tmp_path: Path
) -> None:
    unlabelled.save(tmp_path / "model")
    again = type(unlabelled).load(tmp_path / "model")
    sampler = unlabelled._sampler().model_copy(update={"guidance": 1.5})
    labels = pd.DataFrame({"tissue": ["lung"] * 5})
    np.testing.assert_array_equal(*(m.sample(labels, 1, sampler=sampler).X for m in (unlabelled, again)))


def test_an_unseen_combination_is_extrapolated_and_marked() -> None:
    train, validation = two_shapes(200, 0), two_shapes(60, 1)
    for part in (train, validation):
        alternating = np.resize(["normal", "normal", "normal", "tumor"], part.n_obs)
        part.obs["state"] = np.where(part.obs["tissue"] == "liver", "normal", alternating)
        part.X[part.obs["state"] == "tumor"] += 3
    settings = {**TINY, "conditions": ["tissue", "state"]}
    model = Diffusion.fit(train, validation, DiffusionOptions.model_validate(settings))
    model.record |= training_facts(model, train)
    drawn = model.sample({"liver|tumor": 300, "liver|normal": 300})
    assert drawn.obs["extrapolated"].tolist() == [True] * 300 + [False] * 300
    # the effect of the tumour that lung shows is added to liver
    shift = drawn.X[:300].mean(axis=0) - drawn.X[300:].mean(axis=0)
    lung, tumor = train.obs["tissue"] == "lung", train.obs["state"] == "tumor"
    seen = train.X[lung & tumor].mean(axis=0) - train.X[lung & ~tumor].mean(axis=0)
    np.testing.assert_allclose(shift, seen, atol=0.8)  # the deviation of a gene is 3
    with pytest.raises(ValueError, match=r"knows no tissue\|state 'liver\|benign'"):
        model.sample({"liver|benign": 1})


@torch.no_grad()
def test_profiles_are_those_of_plain_formulas() -> None:
    """DDIM with guidance over all coordinates and with a label per profile, as the papers write it."""
    settings = {**TINY, "label_dropout": 0.3, "components_per_sample": 0.02}
    model = Diffusion.fit(two_shapes(100, 0), two_shapes(40, 1), DiffusionOptions.model_validate(settings))
    denoiser, gaussian = model.denoiser, model.denoiser.preconditioner
    assert gaussian is not None
    assert denoiser.n_components < denoiser.width
    # large weights would amplify rounding
    torch.nn.init.normal_(denoiser.network.out.weight, std=0.2, generator=torch.Generator().manual_seed(0))
    labels = pd.DataFrame({"tissue": ["lung", "liver", "liver", "lung"] * 5})
    sampler = SamplerOptions(name="ddim", steps=4, guidance=2.0)
    codes, generator = torch.tensor([[1], [0], [0], [1]] * 5), torch.Generator().manual_seed(3)
    x, v = torch.randn(20, denoiser.width, generator=generator), gaussian.variance
    for t, earlier in pairwise([1000, 750, 500, 250, 0]):
        now, then = (float(denoiser.path.alpha_bar[i]) for i in (t, earlier))
        share = v / (now * v + 1 - now)
        seen, time = share * x / (share * v).mean().sqrt(), torch.full((20,), t / 1000)
        output = 2 * denoiser.network(seen, time, codes) - denoiser.network(seen, time, torch.full_like(codes, 2))
        x0 = now**0.5 * share * x
        x0[:, : denoiser.n_components] += ((1 - now) * share).sqrt()[: denoiser.n_components] * output
        x0 = torch.minimum(torch.maximum(x0, denoiser.coordinate_range[0]), denoiser.coordinate_range[1])
        departure = (x0 - now**0.5 * share * x) / ((1 - now) * share).sqrt()
        angle, angle_then = (torch.atan(((1 - a) / (a * v)).sqrt()) for a in (now, then))
        x = (then * v + 1 - then).sqrt() * (x / (now * v + 1 - now).sqrt() + (angle - angle_then) * departure)
    noise, log_scale = torch.randn(20, 4, generator=generator), x[:, :1] / gaussian.log_scale_unit
    log_scale = log_scale + gaussian.log_scale_effects[codes[:, 0]]
    residual = (x[:, 1:] * torch.exp(log_scale * gaussian.exponent / 2)) @ gaussian.axes.T
    noise = noise - noise @ gaussian.axes @ gaussian.axes.T
    residual += torch.exp(log_scale / 2) * gaussian.noise_variance.sqrt() * noise
    z = gaussian.effects[codes[:, 0]] + gaussian.unit * residual
    expected = denoiser.scaler.inverse(torch.minimum(torch.maximum(z, denoiser.gene_range[0]), denoiser.gene_range[1]))
    expected = np.maximum(expected.detach().numpy(), model.lower_bound)
    np.testing.assert_allclose(model.sample(labels, 3, sampler=sampler).X, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED FOR LACK OF A GPU")
@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_cpu_and_gpu_sample_the_same(humps: Diffusion, name: str) -> None:
    labels = pd.DataFrame({"tissue": ["liver"] * 50})
    cpu, gpu = (
        humps.sample(labels, 8, sampler=SamplerOptions(name=name, steps=20, device=device)).X
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(cpu, gpu, rtol=1e-3, atol=1e-3)
