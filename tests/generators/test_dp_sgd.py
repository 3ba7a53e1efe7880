"""DP-SGD: sensitivity of donors, accounting, noise, neighbouring cohorts, what of a cohort reaches a network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import beta, kstest, norm
from test_pretrained import SMALL, TRAINING
from test_reference_prior import cohort
from torch import nn

import transcriptome_diffusion as td
from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.generators import differential_privacy as dp
from transcriptome_diffusion.generators import dp_sgd
from transcriptome_diffusion.generators.model_card import CARD_FILE
from transcriptome_diffusion.generators.privacy_options import DPSGDOptions

DELTA = 1e-5


class Linear(nn.Module):
    """A network whose gradient is the mean of the rows it is given."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1, bias=False)
        nn.init.zeros_(self.layer.weight)

    def independent_loss(self, batch, generator):
        return self.layer(batch[0]).mean()


def plain_steps(monkeypatch, rate=1.0):
    """Steps of plain gradient descent in place of Adam's, so that a step is the noisy sum itself."""
    monkeypatch.setattr(torch.optim, "Adam", lambda parameters, lr: torch.optim.SGD(parameters, lr=rate))


def weights(values, donors, noise, options, seed=0, clip=1.0, expected=1.0):
    network = Linear(values.shape[1])
    u = torch.from_numpy(np.asarray(values, dtype=np.float32))
    profiles = dp_sgd.Donors(u, torch.zeros((len(u), 1), dtype=torch.int64), np.asarray(donors))
    rng = np.random.default_rng(seed)
    dp_sgd.fine_tune(network, [network.layer.weight], profiles, noise, clip, expected, options, rng)
    return network.layer.weight.detach().numpy()[0]


ONE = DPSGDOptions(share=0.5, steps=1, sampling_rate=1.0, draws=4)


# ------------------------------------------------------------------------------------------------ sensitivity
@pytest.mark.parametrize("profiles", [1, 7])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_no_donor_moves_the_sum_of_a_step_further_than_the_clipping_norm(monkeypatch, profiles, size):
    plain_steps(monkeypatch)
    rng = np.random.default_rng(1)
    others, target = rng.normal(size=(8, 3)), size * (1 + rng.random(size=(profiles, 3)))
    donors = [*(f"d{i}" for i in range(8)), *["target"] * profiles]
    whole = weights(np.concatenate([others, target]), donors, 0.0, ONE, clip=0.5)
    without = weights(others, donors[:8], 0.0, ONE, clip=0.5)
    moved = np.linalg.norm(whole - without)
    assert moved <= 0.5 * (1 + 1e-5)
    if size >= 1:
        assert moved > 0.499  # the bound is met, so no smaller noise would do


def test_a_donor_has_one_gradient_however_many_profiles_and_draws(monkeypatch):
    plain_steps(monkeypatch)
    values = np.array([[0.3, 0.0, 0.0]] * 5 + [[0.0, 0.2, 0.0]])
    found = weights(values, ["a"] * 5 + ["b"], 0.0, ONE)
    np.testing.assert_allclose(-found, [0.3, 0.2, 0.0], atol=1e-5)


def test_profiles_of_every_donor_are_drawn_alike():
    u = torch.arange(4.0)[:, None]
    profiles = dp_sgd.Donors(u, torch.zeros((4, 1), dtype=torch.int64), np.array(["b", "a", "b", "b"]))
    drawn, _ = profiles.batch(np.array([0, 1]), 3000, np.random.default_rng(0))
    assert set(drawn[:3000, 0].tolist()) == {1.0}
    shares = np.bincount(drawn[3000:, 0].long().numpy(), minlength=4) / 3000
    np.testing.assert_allclose(shares, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.04)


# ------------------------------------------------------------------------------------------------- accounting
def test_with_every_donor_in_every_step_epsilon_is_that_of_gaussians_in_closed_form():
    """T steps and two other mechanisms are one Gaussian mechanism; Balle & Wang (2018), theorem 5, written out."""
    others, noise, steps = (2.0, 3.0), 5.0, 12
    sigma = 1 / np.sqrt(1 / 4 + 1 / 9 + steps / noise**2)
    epsilon = dp_sgd.composed_epsilon(others, DELTA, noise, 1.0, steps)
    delta = norm.cdf(0.5 / sigma - epsilon * sigma) - np.exp(epsilon) * norm.cdf(-0.5 / sigma - epsilon * sigma)
    assert delta <= DELTA
    assert dp.noise_multiplier(epsilon, DELTA) == pytest.approx(sigma, rel=0.002)


def test_sampling_is_accounted_as_another_library_does():
    """Privacy random variables of Opacus (Gopi et al. 2021, arXiv:2106.02848), another implementation."""
    from opacus.accountants import PRVAccountant

    accountant = PRVAccountant()
    accountant.history = [(1.5, 1.0, 1), (2.5, 0.25, 60)]
    with np.errstate(divide="ignore"):
        expected = accountant.get_epsilon(DELTA)
    assert dp_sgd.composed_epsilon((1.5,), DELTA, 2.5, 0.25, 60) == pytest.approx(expected, rel=0.01)


def test_the_noise_that_is_found_is_the_smallest_that_keeps_epsilon():
    others = dp.split_noise(dp.noise_multiplier(4.0, DELTA), 0.5)
    noise = dp_sgd.sgd_noise(others, 4.0, DELTA, 0.2, 30)
    assert dp_sgd.composed_epsilon(others, DELTA, noise, 0.2, 30) <= 4.0
    assert dp_sgd.composed_epsilon(others, DELTA, 0.98 * noise, 0.2, 30) > 4.0
    with pytest.raises(ValueError, match=r"leave nothing of it\. Raise `dp_sgd\.share`"):
        dp_sgd.sgd_noise((0.1,), 1.0, DELTA, 0.2, 30)


# ------------------------------------------------------------------------------------------------------ noise
def test_a_step_without_gradients_is_normal_with_the_deviation_of_noise_times_clip(monkeypatch):
    plain_steps(monkeypatch)
    found = weights(np.zeros((2, 4000)), ["a", "b"], 3.0, ONE, clip=0.5, expected=2.0)
    assert kstest(found / (3.0 * 0.5 / 2), "norm").pvalue > 0.01


def test_a_batch_without_a_donor_is_a_step_of_noise_alone(monkeypatch):
    plain_steps(monkeypatch)
    rare = ONE.model_copy(update={"sampling_rate": 1e-9, "steps": 3})
    assert np.ptp(weights(np.full((2, 50), 1e6), ["a", "b"], 0.0, rare)) == 0
    found = weights(np.full((2, 4000), 1e6), ["a", "b"], 1.0, rare)
    assert 0.5 < found.std() < 2  # means over the steps, of sums of noise
    assert abs(found.mean()) < 0.1


def audited(noise, trials, steps=2):
    """A lower bound of epsilon (95 %) by one who knows all but whether the last donor is there, and sees weights.

    Clopper-Pearson bounds on the error rates of the best threshold of the likelihood ratio: Nasr et al. (2021),
    arXiv:2101.04535, section 4.
    """
    options = ONE.model_copy(update={"steps": steps, "draws": 1})
    others, target = np.zeros((4, 1)), np.full((1, 1), -1e3)
    seen = [
        np.array(
            [
                weights(values, [f"d{i}" for i in range(len(values))], noise, options, seed=2 * trial + k)[0]
                for trial in range(trials)
            ]
        )
        for k, values in enumerate((others, np.concatenate([others, target])))
    ]
    middle = 0.5 * steps  # with the donor, and without noise, the weight after the last step is their number
    false_positives, false_negatives = (seen[0] > middle).sum(), (seen[1] <= middle).sum()
    worst = [beta.ppf(0.975, errors + 1, trials - errors) for errors in (false_positives, false_negatives)]
    return max(np.log(max((1 - worst[1] - DELTA) / worst[0], 1e-9)), 0.0)


def test_neighbouring_cohorts_cannot_be_told_better_than_epsilon_and_without_noise_they_can(monkeypatch):
    plain_steps(monkeypatch)
    epsilon = 1.0
    noise = dp_sgd.sgd_noise((), epsilon, DELTA, 1.0, 2)
    assert audited(noise, 80) <= epsilon
    assert audited(0.01 * noise, 80) > 2 * epsilon  # forgotten noise is found


# ------------------------------------------------------------------------------------------------ the network
def private(own, reference, share=0.3, **sgd):
    privacy = {"dial": "dp", "epsilon": 6, "axes": 10, "dp_sgd": {"share": share, "steps": 6, "draws": 2, **sgd}}
    return td.fit("ddim", *own, reference=reference, privacy=privacy, **SMALL["ddim"])


def test_the_card_reports_the_epsilon_of_the_accountant(own, reference, tmp_path):
    model = private(own, reference)
    facts = model.record["privacy"]
    noise = tuple(model.record["noise_multipliers"])
    epsilon = dp_sgd.composed_epsilon(noise, DELTA, facts["dp_sgd"]["noise_multiplier"], 0.25, 6)
    assert facts["epsilon"] == epsilon
    assert 5.9 < epsilon <= 6
    model.save(tmp_path / "model")
    card = (tmp_path / "model" / CARD_FILE).read_text()
    assert f"({epsilon:g}, 1e-05)-differentially private" in card
    assert "sums of clipped gradients, with noise, of 6 steps of DP-SGD" in card
    again = td.load_generator(tmp_path / "model")
    np.testing.assert_array_equal(dense(again.sample({"t1": 3}, seed=1)), dense(model.sample({"t1": 3}, seed=1)))


def test_only_the_embeddings_of_labels_change_unless_all_is_asked_for(own, reference, monkeypatch):
    before = private(own, reference, share=0.0).state()
    for trained, only in (("labels", True), ("all", False)):
        after = private(own, reference, trained=trained).state()
        changed = {
            name for name in after if name.startswith("network.") and not np.array_equal(after[name], before[name])
        }
        assert all("labels" in name for name in changed) is only
        assert changed


def test_nothing_but_noisy_sums_reaches_the_network(own, reference, monkeypatch):
    """With what is released of means, gradients and noise replaced by constants, any cohort gives the same model."""
    constant = dp.PrivateMeans(np.ones((2, 10)), np.array([15.2, 14.7]), np.array([1.0, 1.1]))
    monkeypatch.setattr("transcriptome_diffusion.generators.reference_prior.release", lambda *_, **__: constant)

    def zero(network, trained, profiles, chosen, draws, rng, generator):
        for p in trained:
            p.grad_sample = p.new_ones((1, *p.shape)) / p.numel()

    rng = np.random.default_rng
    monkeypatch.setattr("transcriptome_diffusion.generators.pretrained.np.random.default_rng", lambda seed=5: rng(seed))
    first = private(own, reference).state()
    monkeypatch.setattr(dp_sgd, "backward", zero)
    states = []
    train, validation = own
    other = cohort({"t10": 40, "t1": 3}, 77, "e", 5.0, 3.0)
    other = make_profiles(dense(other) - 60, other.obs, train.var, train.uns["unit"])
    monkeypatch.setattr(dp_sgd, "gradient_norm", lambda *_: 1.0)
    for part in ((train, validation), (other, other)):
        monkeypatch.setattr(dp_sgd, "Donors", lambda u, codes, donors: [None] * 16)  # sampling is Poisson's
        states.append(private(part, reference).state())
    for name, array in states[0].items():
        np.testing.assert_array_equal(states[1][name], array, err_msg=name)
    assert any(not np.array_equal(first[name], states[0][name]) for name in first)


def test_layers_that_mix_profiles_are_refused_by_name(own, reference):
    privacy = {"dial": "dp", "axes": 10, "dp_sgd": {"share": 0.3, "steps": 2}}
    quick = {"training": {**TRAINING, "max_steps": 2, "validate_every": 1}}
    with pytest.raises(ValueError, match=r"encoder\.layers\.0\.1 \(BatchNorm1d\)\. Set `batch_norm: false`"):
        td.fit("vae", *own, reference=reference, privacy=privacy, **(SMALL["vae"] | quick))
    with pytest.raises(ValueError, match="trained against a critic, which DP-SGD does not know"):
        td.fit("wgan_gp", *own, reference=reference, privacy=privacy, **(SMALL["wgan_gp"] | quick))
    model = td.fit("vae", *own, reference=reference, privacy=privacy, batch_norm=False, **(SMALL["vae"] | quick))
    assert model.record["privacy"]["dp_sgd"]["steps"] == 2


def test_the_loss_of_a_row_does_not_depend_on_the_others(own, reference):
    model = private(own, reference, share=0.0)
    u, codes = torch.randn((5, model.denoiser.width)), torch.zeros((5, 1), dtype=torch.int64)

    def gradient_of_first(others: float) -> torch.Tensor:
        rows = torch.cat([u[:1], u[1:] * others]).requires_grad_()
        model.denoiser.independent_loss((rows, codes), torch.Generator().manual_seed(3)).backward()
        return rows.grad[0]

    torch.testing.assert_close(gradient_of_first(1.0), gradient_of_first(100.0))
    # nor are times stratified over rows
    times = torch.cat([model.denoiser.path.times(1, torch.Generator().manual_seed(s)) for s in range(400)])
    assert len(torch.unique(times)) > 100
