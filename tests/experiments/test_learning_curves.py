"""Learning curves with a known law, and the quality of profiles of known origin."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.experiments.learning_curves import (
    Drawn,
    InversePower,
    axes_of,
    frontier,
    needs,
    null_deviation,
    quality,
)
from transcriptome_diffusion.expression.profiles import dense, make_profiles
from transcriptome_diffusion.metrics.profile_set import ProfileSet

GENES = 50
_RNG = np.random.default_rng(0)
LOADINGS = _RNG.normal(size=(GENES, 5))
MEANS = 8 + _RNG.normal(size=(8, GENES))


def draw(n: int, seed: int, prefix: str, tissues=(0, 1), means=MEANS) -> object:
    rng = np.random.default_rng(seed)
    codes = np.repeat(tissues, n)
    values = means[codes] + rng.normal(size=(len(codes), 5)) @ LOADINGS.T + 0.5 * rng.normal(size=(len(codes), GENES))
    obs = pd.DataFrame(
        {"tissue": [f"t{c}" for c in codes], "donor": [f"{prefix}{i}" for i in range(len(codes))], "study": "x"},
        index=[f"{prefix}-{i}" for i in range(len(codes))],
    )
    names = [f"G{i}" for i in range(GENES)]
    return make_profiles(values, obs, pd.DataFrame({"symbol": names}, index=names), "log2(FPKM + 1)")


def scores(curve, gain: float, sizes=("5", "10", "25", "50"), seeds=range(3), noise=0.0) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    rows = []
    for size in sizes:
        for seed in seeds:
            n = 100 if size == "all" else int(size)
            alone = float(curve(n)) + noise * rng.normal()
            for method, ratio, value in (("none", 0, alone), ("twice", 5, float(curve(2 * n)) + gain)):
                rows.append((method, size, ratio, seed, "balanced_accuracy_logistic", value, 4 * n, ""))
    columns = ["method", "n_per_tissue", "ratio", "seed", "metric", "value", "real_profiles", "note"]
    return pd.DataFrame(rows, columns=columns)


def test_the_law_of_a_curve_is_found_and_inverted():
    law = InversePower(0.95, 1.2, 0.6)
    n = np.array([5.0, 10, 25, 50, 100])
    found = InversePower.fit(n, law(n))
    assert (found.limit, found.loss, found.rate) == pytest.approx((0.95, 1.2, 0.6), abs=1e-3)
    assert found.profiles_for(float(law(70))) == pytest.approx(70, rel=1e-3)
    assert found.profiles_for(0.96) == np.inf
    # an accuracy cannot be above 1, however steep the start
    assert InversePower.fit(np.array([5.0, 10]), np.array([0.5, 0.99])).limit <= 1


def test_profiles_that_teach_as_much_as_twice_as_many_real_ones_are_worth_as_many_again():
    law = InversePower(0.95, 1.2, 0.6)
    table = needs(scores(law, 0.0, sizes=("5", "10", "25", "all")))
    twice = table[table["method"] == "twice"].set_index("n_per_tissue")
    np.testing.assert_allclose(twice["worth"], twice["n"], rtol=0.02)
    assert twice.loc["all", "n"] == 100
    predicted = table[table["n_per_tissue"] == "(predicted)"].set_index("n")
    np.testing.assert_allclose(predicted["curve"], law(predicted.index.to_numpy()), atol=1e-3)
    assert list(predicted.index) == [200, 400]


def test_bands_widen_with_the_noise_between_seeds_and_hold_the_law():
    law = InversePower(0.95, 1.2, 0.6)
    widths = []
    for noise in (0.005, 0.03):
        table = needs(scores(law, 0.0, seeds=range(6), noise=noise))
        alone = table[table["method"] == "none"]
        widths.append((alone["curve_high"] - alone["curve_low"]).mean())
        known = alone[alone["n_per_tissue"] != "(predicted)"]
        assert (known["curve_low"] - 2 * noise <= law(known["n"])).all()
        assert (law(known["n"]) <= known["curve_high"] + 2 * noise).all()
    assert widths[1] > 2 * widths[0]
    assert needs(scores(law, 0.0, sizes=("5",))).empty


@pytest.fixture(scope="module")
def judged():
    few, others, test = draw(25, 1, "d"), draw(20, 2, "v"), draw(60, 3, "t")
    reference = draw(40, 4, "r", tissues=(2, 3, 4, 5))
    origins = {
        "population": draw(200, 5, "s"),
        "copies": few,
        "other means": draw(200, 6, "s", means=MEANS[::-1]),
        "independent": draw(200, 7, "s"),
    }
    rng = np.random.default_rng(0)
    values = dense(origins["independent"]).copy()
    for rows in (slice(0, 200), slice(200, 400)):
        values[rows] = rng.permuted(values[rows], axis=0)
    origins["independent"].X = values
    own_means = np.stack([dense(few)[:25].mean(axis=0), dense(few)[25:].mean(axis=0)])
    origins["own means"] = draw(200, 8, "s", means=own_means)
    axes = axes_of(reference, "tissue")
    drawn = [
        Drawn.of((name, "25", 0), few, others, dense(part), part.obs["tissue"].to_numpy(), "tissue", axes)
        for name, part in origins.items()
    ]
    table = quality(drawn, test, "tissue")
    return table.set_index(["method", "metric"])["value"]


def test_profiles_of_the_population_are_near_give_nothing_away_and_have_its_edges(judged):
    assert judged["population", "adversarial_accuracy"] == pytest.approx(0.5, abs=0.08)
    assert judged["population", "attack_auc"] == pytest.approx(0.5, abs=0.1)
    assert judged["population", "known_axes_auc"] == pytest.approx(0.5, abs=0.1)
    assert judged["population", "edges_found"] > 0.85
    assert judged["population", "edges_false"] < 0.2


def test_copies_are_found_and_wrong_means_and_lost_edges_show(judged):
    assert judged["copies", "attack_auc"] > 0.9
    assert judged["other means", "adversarial_accuracy"] > 0.8
    assert judged["other means", "tstr_balanced_accuracy"] < 0.8 < judged["population", "tstr_balanced_accuracy"]
    assert judged["independent", "edges_found"] < 0.05


def test_who_knows_the_axes_finds_members_by_means_alone(judged):
    """A fresh sample of the population around the means of the few: nobody's axes, but their means."""
    assert judged["own means", "known_axes_auc"] > 0.65
    assert judged["own means", "known_axes_auc"] > judged["own means", "attack_auc"] - 0.02


def test_the_frontier_has_a_row_per_method_and_size_with_means_and_deviations():
    rows = [("a", "5", seed, "attack_auc", 0.5 + 0.1 * seed, 20, "") for seed in (0, 1)]
    columns = ["method", "n_per_tissue", "seed", "metric", "value", "real_profiles", "note"]
    table = frontier(pd.DataFrame(rows, columns=columns))
    assert table.loc[0, "attack_auc"] == pytest.approx(0.55)
    assert table.loc[0, "attack_auc_sd"] == pytest.approx(np.std([0.5, 0.6], ddof=1))


def test_the_deviation_of_an_attack_that_finds_nothing_is_that_of_mann_and_whitney_and_counts_donors():
    """Under the null a rank sum of m and n different scores has the variance m n (m + n + 1) / 12."""
    rng = np.random.default_rng(0)

    def sides(repeats: int) -> float:
        parts = []
        for count, prefix in ((20, "m"), (30, "n")):
            names = np.repeat([f"{prefix}{i}" for i in range(count)], repeats)
            scores = np.repeat(rng.normal(size=count), repeats)
            parts += [scores, ProfileSet(scores[:, None], np.repeat("lung", len(names)), names)]
        return null_deviation(*parts, seed=0)

    expected = np.sqrt(51 / (12 * 20 * 30))
    assert sides(1) == pytest.approx(expected, rel=0.25)
    assert sides(4) == pytest.approx(expected, rel=0.25)  # profiles of one donor are no further evidence
