"""The paper's protocol: which space, which rows, which classifier, and what it says of known profiles."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

from transcriptome_diffusion.experiments import paper_protocol as protocol
from transcriptome_diffusion.experiments.paper_protocol import (
    COLUMNS,
    PaperSpace,
    RealProfiles,
    Transcriptomes,
    fit_reconstructors,
    paper_protocol,
    real_rows,
    rebuild,
    to_linear,
)
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.generators.options import SamplerOptions, SamplingOptions
from transcriptome_diffusion.metrics.fidelity import fidelity
from transcriptome_diffusion.metrics.options import PaperProtocolOptions, PaperTranscriptomeOptions
from transcriptome_diffusion.reconstruction.options import OLSOptions

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
#: where it does not matter what classifiers learn
QUICK = OPTIONS.model_copy(update={"classifier": OPTIONS.classifier.model_copy(update={"epochs": 1})})


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


def real() -> RealProfiles:
    return RealProfiles.of(cohort(0), cohort(1, 40), cohort(2, 60), "tissue")


def real_again(labels: pd.DataFrame, seed: int) -> ad.AnnData:
    """Fresh real profiles, with the labels in the same order."""
    return cohort(seed + 100, len(labels))


@pytest.fixture
def table() -> Any:
    def score(model: Any, options: PaperProtocolOptions = QUICK, **how: Any) -> pd.DataFrame:
        return paper_protocol("known", model, real(), options, SAMPLING, **how)

    return score


def test_one_profile_is_drawn_per_row_of_training_and_validation_with_a_seed_for_each_drawing(table: Any) -> None:
    model = Known("standard", real_again)
    sampler = SamplerOptions(name="ddim", steps=20)
    found = table(model, sampler=sampler)
    assert model.asked == [(160, seed, {"sampler": sampler}) for seed in (5, 6, 7)]
    assert list(found.columns) == COLUMNS
    runs = found.set_index("metric")["runs"]
    assert (runs["accuracy"], runs["precision"]) == (3, 2)
    assert set(found["protocol"]) == {"paper"}
    neighbours = {"precision", "recall", "f1", "density", "coverage", "adversarial_accuracy"}
    assert set(found["metric"]) == neighbours | {"correlation", "frechet_classifier", "accuracy"}
    assert found.set_index("metric")["reference"].to_dict()["accuracy"] == "test"
    assert set(found.query("metric != 'accuracy'")["reference"]) == {"train"}


def test_indicators_of_samplers_are_taken_with_other_numbers_of_steps() -> None:
    model = Known("linear_max_abs", real_again)
    options = QUICK.model_copy(update={"steps": [10, 20]})
    found = paper_protocol("ddim", model, real(), options, SAMPLING, SamplerOptions(name="ddim", steps=20))
    asked = [(seed, how["sampler"].steps) for _, seed, how in model.asked]
    assert asked == [(5, 20), (6, 20), (7, 20), (5, 10), (6, 10)]
    metrics = found.groupby("steps")["metric"].agg(set).to_dict()
    assert metrics[20] - metrics[10] == {"accuracy"}
    assert set(found.loc[found["steps"] == 10, "runs"]) == {2}
    without = paper_protocol("vae", Known("linear_standard", real_again), real(), options, SAMPLING)
    assert without["steps"].isna().all()


@pytest.mark.parametrize("scaling", ["linear_max_abs", "linear_standard"])
def test_fresh_real_profiles_score_well_and_other_ones_do_not(table: Any, scaling: str) -> None:
    good = table(Known(scaling, real_again), OPTIONS).set_index("metric")["mean"]
    others = Known(scaling, lambda labels, seed: shifted(real_again(labels, seed)))
    bad = table(others, OPTIONS).set_index("metric")["mean"]
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
    copies = Known("standard", lambda labels, seed: protocol.join(cohort(0), cohort(1, 40)))
    found = paper_protocol("known", copies, real(), OPTIONS, SAMPLING).set_index("metric")["mean"]
    assert (found["precision"], found["recall"]) == (1, 1)
    assert found["frechet_classifier"] == pytest.approx(0, abs=1e-3)
    assert found["adversarial_accuracy"] == 0


@pytest.mark.parametrize(("scaling", "kind"), [("linear_max_abs", "max_abs"), ("linear_standard", "standard")])
def test_neighbours_are_looked_for_in_the_generators_own_space(table: Any, scaling: str, kind: Any) -> None:
    found = table(Known(scaling, real_again)).set_index("metric")["mean"]
    linear = to_linear(np.concatenate([cohort(0).X, cohort(1, 40).X]))
    space = PaperSpace.fit(linear, kind)
    values = [fidelity(space(linear), space(to_linear(cohort(seed + 100, 160).X)), 5) for seed in (5, 6)]
    for metric in ("precision", "recall", "density", "coverage"):
        assert found[metric] == pytest.approx(np.mean([value[metric] for value in values]))
    other = PaperSpace.fit(linear, "standard" if kind == "max_abs" else "max_abs")
    density = [fidelity(other(linear), other(to_linear(cohort(seed + 100, 160).X)), 5)["density"] for seed in (5, 6)]
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
        RealProfiles.of(*parts, "tissue")


# ------------------------------------------------------------------------------------------ the real row
def test_real_profiles_of_the_test_part_are_the_ceiling_in_both_spaces() -> None:
    found = real_rows(real(), OPTIONS)
    assert set(found["scaling"]) == {"max_abs", "standard"}
    assert set(found["n"]) == {60}
    for _, part in found.groupby("scaling"):
        values = part.set_index("metric")["mean"]
        assert values["precision"] > 0.9
        assert values["adversarial_accuracy"] == pytest.approx(0.5, abs=0.15)
    # as many classifiers of real profiles as a generator has, in one of both spaces
    accuracies = found.query("metric == 'accuracy'")
    assert accuracies[["scaling", "runs"]].values.tolist() == [["standard", OPTIONS.classifiers]]
    assert accuracies["mean"].item() > 0.9
    assert set(found.query("metric != 'accuracy'")["runs"]) == {1}


def test_classifiers_of_real_profiles_differ_from_one_another() -> None:
    space = protocol._Landmarks(real(), "standard", OPTIONS)
    first, again, second = (network[0].weight for network, _ in space.fit_to_real([0, 0, 1]))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_the_real_test_part_is_compared_with_training_profiles_of_the_same_labels() -> None:
    codes, others = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 0, 0, 1, 1, -1])
    ours, theirs = protocol._matched(codes, others, 0)
    np.testing.assert_array_equal(codes[ours], others[theirs])
    assert len(set(ours)) == len(set(theirs)) == len(ours) == 4


# ------------------------------------------------------------------------------------------ all genes
TARGETS = 4
WHOLE = OPTIONS.model_copy(
    update={
        "transcriptome": PaperTranscriptomeOptions.model_validate(
            {"neighbours": 5, "rows": 40, "classifiers": 1, "classifier": OPTIONS.classifier.model_dump()}
        )
    }
)
#: of linear values: targets are these mixtures of landmarks
MIXTURE = np.random.default_rng(8).dirichlet(np.ones(GENES), size=TARGETS).T.astype(np.float32)


def whole_cohort(seed: int, n: int = 120) -> ad.AnnData:
    """Targets before the landmarks, so that places have to be looked up."""
    landmarks = cohort(seed, n)
    targets = np.log2(to_linear(landmarks.X) @ MIXTURE + 1)
    names = [*(f"t{i}" for i in range(TARGETS)), *landmarks.var_names]
    var = pd.DataFrame({"symbol": names}, index=names)
    return make_profiles(np.hstack([targets, landmarks.X]), landmarks.obs, var, "log2(TPM + 1)")


@pytest.fixture(scope="module")
def transcriptomes() -> Transcriptomes:
    parts = (cohort(0), cohort(1, 40)), (whole_cohort(0), whole_cohort(1, 40))
    fitted = fit_reconstructors(*parts, {"ols": OLSOptions()}, WHOLE)
    model = fitted["ols"]()
    whole = RealProfiles.of(whole_cohort(0), whole_cohort(1, 40), whole_cohort(2, 60), "tissue")
    return Transcriptomes(whole, {"ols": lambda: model})


def test_reconstructions_are_fitted_to_four_fifths_in_linear_values(transcriptomes: Transcriptomes) -> None:
    model = transcriptomes.reconstructors["ols"]()
    assert model.unit == "TPM"
    landmarks = real().linear
    fitted, _ = protocol._split(real().codes, WHOLE.seed, stratified=True)
    assert len(fitted) == 128
    np.testing.assert_allclose(model.inputs.mean, landmarks[fitted].mean(0), rtol=1e-4)
    # a mixture of linear values is learnt exactly by least squares of them
    rebuilt = model.outputs.undo(model.predict(model.inputs(landmarks)))
    np.testing.assert_allclose(rebuilt, landmarks @ MIXTURE, rtol=1e-3)


def test_the_error_of_a_reconstruction_is_on_the_test_part_in_standard_deviations(
    transcriptomes: Transcriptomes,
) -> None:
    found = real_rows(real(), WHOLE, transcriptomes)
    error = found[found["metric"] == "mae_standardised"]
    assert error[["reconstructor", "reference", "n"]].values.tolist() == [["ols", "test", 60]]
    assert error["mean"].item() == pytest.approx(0, abs=1e-3)
    model = transcriptomes.reconstructors["ols"]()
    off = SimpleNamespace(
        inputs=model.inputs,
        outputs=model.outputs,
        targets=model.targets,
        predict=lambda landmarks: model.predict(landmarks) + np.float32(0.25),
    )
    assert protocol._reconstruction_error(off, real(), transcriptomes.real) == pytest.approx(0.25, abs=1e-3)  # type: ignore[arg-type]


def test_rebuilt_profiles_have_landmarks_at_their_places(transcriptomes: Transcriptomes) -> None:
    model = transcriptomes.reconstructors["ols"]()
    landmarks = np.random.default_rng(0).normal(size=(7, GENES)).astype(np.float32)
    whole = rebuild(model, landmarks)
    np.testing.assert_array_equal(whole[:, TARGETS:], landmarks)
    np.testing.assert_allclose(whole[:, :TARGETS], model.predict(landmarks), rtol=1e-6)


def test_all_genes_are_scored_by_reconstructor_and_directly(transcriptomes: Transcriptomes) -> None:
    direct = Known("standard", lambda labels, seed: whole_cohort(seed + 100, len(labels)))
    given = Transcriptomes(transcriptomes.real, transcriptomes.reconstructors, direct)  # type: ignore[arg-type]
    found = paper_protocol("known", Known("standard", real_again), real(), WHOLE, SAMPLING, None, given)
    wide = found[found["space"] == "transcriptome"].pivot(index="reconstructor", columns="metric", values="mean")
    assert set(wide.index) == {"ols", "direct"}
    # the same profiles come from both, since the reconstruction is exact
    assert wide.loc["ols", "precision"] == pytest.approx(wide.loc["direct", "precision"], abs=0.05)
    assert (wide["adversarial_accuracy"] - 0.5).abs().max() < 0.2
    assert wide["accuracy"].min() > 0.9
    runs = found[found["space"] == "transcriptome"].groupby("metric")["runs"].first()
    assert (runs["accuracy"], runs["precision"]) == (1, 2)


def test_landmarks_of_diffusion_models_enter_a_reconstruction_standardised_by_themselves(
    transcriptomes: Transcriptomes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def watched(model: Any, landmarks: np.ndarray) -> np.ndarray:
        seen.append(landmarks)
        return rebuild(model, landmarks)

    monkeypatch.setattr(protocol, "rebuild", watched)
    for scaling, by_itself in (("linear_max_abs", True), ("linear_standard", False)):
        seen.clear()
        model = Known(scaling, lambda labels, seed: shifted(real_again(labels, seed)))
        options = QUICK.model_copy(update={"transcriptome": WHOLE.transcriptome})
        paper_protocol("known", model, real(), options, SAMPLING, None, transcriptomes)
        assert [bool(np.abs(values.mean(0)).max() < 1e-4) for values in seen] == [by_itself] * 2


def test_without_their_options_all_genes_are_left_out(transcriptomes: Transcriptomes) -> None:
    found = paper_protocol("known", Known("standard", real_again), real(), QUICK, SAMPLING, None, transcriptomes)
    assert set(found["space"]) == {"landmarks"}
