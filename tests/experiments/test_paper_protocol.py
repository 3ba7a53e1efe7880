"""The paper's protocol: which space, which rows, which classifier, and what it says of known profiles."""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.experiments import paper_protocol as protocol
from transcriptome_diffusion.experiments.paper_protocol import COLUMNS, PaperSpace, paper_protocol, to_linear
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.options import SamplingOptions
from transcriptome_diffusion.metrics.fidelity import fidelity
from transcriptome_diffusion.metrics.options import PaperProtocolOptions

GENES = 6
SAMPLING = SamplingOptions(seed=5)
OPTIONS = PaperProtocolOptions.model_validate(
    {
        "neighbours": 5,
        "drawings": 2,
        "classifiers": 3,
        "most_apart": {"max_abs": 40, "standard": 60},
        "classifier": {"hidden": [16, 8], "epochs": 15, "learning_rate": 1e-2, "batch_size": 32},
    }
)


def cohort(seed: int, n: int = 120, unit: str = "log2(TPM + 1)") -> ad.AnnData:
    rng = np.random.default_rng(seed)
    tissue = np.where(np.arange(n) % 2, "lung", "liver")
    values = 0.5 * rng.normal(size=(n, GENES)) + 2.0 * (tissue == "liver")[:, None] * np.eye(1, GENES) + 5.0
    names = [f"g{i}" for i in range(GENES)]
    obs = pd.DataFrame({"tissue": tissue}, index=[f"s{seed}-{i}" for i in range(n)])
    return make_profiles(values, obs, pd.DataFrame({"symbol": names}, index=names), unit)


class Known:
    """A generator that returns known profiles, and remembers how it was asked."""

    def __init__(self, scaling: str, make: Any) -> None:
        self.settings, self.make, self.asked = {"scaling": scaling}, make, []

    def sample(self, labels: pd.DataFrame, seed: int, batch_size: int = 1024, **how: Any) -> ad.AnnData:
        self.asked.append((len(labels), seed, how))
        return self.make(labels, seed)


def real_again(labels: pd.DataFrame, seed: int) -> ad.AnnData:
    """Fresh real profiles, with the labels in the same order."""
    return cohort(seed + 100, len(labels))


@pytest.fixture
def table() -> Any:
    def score(model: Any, **how: Any) -> pd.DataFrame:
        train, validation, test = cohort(0), cohort(1, 40), cohort(2, 60)
        return paper_protocol("known", model, train, validation, test, OPTIONS, SAMPLING, **how)

    return score


def test_one_profile_is_drawn_per_row_of_training_and_validation_with_a_seed_for_each_drawing(table: Any) -> None:
    model = Known("standard", real_again)
    found = table(model, sampler="ddim")
    assert model.asked == [(160, seed, {"sampler": "ddim"}) for seed in (5, 6, 7)]
    assert list(found.columns) == COLUMNS
    runs = found.set_index("metric")["runs"]
    assert (runs["accuracy"], runs["precision"]) == (3, 2)
    assert set(found["protocol"]) == {"paper"}
    assert found.set_index("metric")["reference"].to_dict()["accuracy"] == "test"
    assert set(found.query("metric != 'accuracy'")["reference"]) == {"train"}


@pytest.mark.parametrize("scaling", ["linear_max_abs", "linear_standard"])
def test_fresh_real_profiles_score_well_and_other_ones_do_not(table: Any, scaling: str) -> None:
    good = table(Known(scaling, real_again)).set_index("metric")["mean"]
    bad = table(Known(scaling, lambda labels, seed: shifted(real_again(labels, seed)))).set_index("metric")["mean"]
    assert good["precision"] > 0.9 > bad["precision"]
    assert good["recall"] > 0.9 > bad["recall"]
    assert good["adversarial_accuracy"] == pytest.approx(0.5, abs=0.15)
    assert bad["adversarial_accuracy"] > 0.9
    assert good["accuracy"] > 0.9
    assert good["frechet_classifier"] < bad["frechet_classifier"]


def shifted(profiles: ad.AnnData) -> ad.AnnData:
    profiles.X = profiles.X + 3.0
    return profiles


def test_a_memoriser_wins() -> None:
    """Why these columns stand beside ours and not in place of them."""
    train, validation, test = cohort(0), cohort(1, 40), cohort(2, 60)
    copies = Known("standard", lambda labels, seed: protocol.join(train, validation))
    found = paper_protocol("known", copies, train, validation, test, OPTIONS, SAMPLING).set_index("metric")["mean"]
    assert (found["precision"], found["recall"]) == (1, 1)
    assert found["frechet_classifier"] == pytest.approx(0, abs=1e-3)
    assert found["adversarial_accuracy"] == 0


@pytest.mark.parametrize(("scaling", "kind"), [("linear_max_abs", "max_abs"), ("linear_standard", "standard")])
def test_neighbours_are_looked_for_in_the_generators_own_space(table: Any, scaling: str, kind: Any) -> None:
    found = table(Known(scaling, real_again)).set_index("metric")["mean"]
    real = to_linear(np.concatenate([cohort(0).X, cohort(1, 40).X]))
    space = PaperSpace.fit(real, kind)
    values = [fidelity(space(real), space(to_linear(cohort(seed + 100, 160).X)), 5) for seed in (5, 6)]
    for metric in ("precision", "recall", "density", "coverage"):
        assert found[metric] == pytest.approx(np.mean([value[metric] for value in values]))
    other = PaperSpace.fit(real, "standard" if kind == "max_abs" else "max_abs")
    density = [fidelity(other(real), other(to_linear(cohort(seed + 100, 160).X)), 5)["density"] for seed in (5, 6)]
    assert found["density"] != pytest.approx(np.mean(density), abs=1e-6)


def test_the_accuracy_of_adversaries_is_taken_on_the_same_rows_of_both_sides(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []

    def watched(real: np.ndarray, synthetic: np.ndarray, k: int) -> dict[str, float]:
        sizes.append((len(real), len(synthetic)))
        return fidelity(real, synthetic, k)

    monkeypatch.setattr(protocol, "fidelity", watched)
    table(Known("linear_max_abs", real_again))
    assert sizes == [(160, 160), (40, 40)] * 2
    sizes.clear()
    table(Known("linear_standard", real_again))
    assert sizes == [(160, 160), (60, 60)] * 2


def test_drawn_profiles_are_standardised_by_themselves_where_theirs_are(
    table: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A diffusion model's scale error does not show in reverse validation; a VAE's does."""
    seen: list[np.ndarray] = []
    train_classifier = protocol.train_classifier

    def watched(train: Any, *others: Any) -> Any:
        seen.append(train[0])
        return train_classifier(train, *others)

    monkeypatch.setattr(protocol, "train_classifier", watched)
    for scaling, expected in (("linear_max_abs", True), ("linear_standard", False)):
        seen.clear()
        table(Known(scaling, lambda labels, seed: shifted(real_again(labels, seed))))
        by_itself = [bool(np.abs(values.mean(0)).max() < 1e-4) for values in seen[1:]]  # the first is the real one
        assert by_itself == [expected] * 3


def test_negative_linear_values_are_taken_as_they_are() -> None:
    np.testing.assert_allclose(to_linear(np.array([[-2.0, 0.0, 3.0]])), [[-3.0, 0.0, 7.0]])


def test_a_unit_without_linear_values_is_refused() -> None:
    parts = [cohort(seed, 40, unit="VST") for seed in range(3)]
    with pytest.raises(ValueError, match="needs linear values, and the profiles are in 'VST'"):
        paper_protocol("known", Known("standard", real_again), *parts, OPTIONS, SAMPLING)
