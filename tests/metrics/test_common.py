"""What holds for every metric in METRICS: its null, the faults it has to see, bad input, order, type and range."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from populations import CENTRES, SIZES, UNIT, draw
from transcriptome_diffusion.expression.profiles import make_profiles
from transcriptome_diffusion.metrics import registry, scores
from transcriptome_diffusion.metrics.options import EvaluationOptions
from transcriptome_diffusion.metrics.reference import EvaluationReference
from transcriptome_diffusion.metrics.registry import FAULTS, METRICS, SPACES
from transcriptome_diffusion.metrics.scores import score_generator, score_real, score_white_box

OPTIONS = EvaluationOptions(
    draws=2,
    neighbours={"landmarks": 5, "transcriptome": 5},
    classifier={"hidden": [16], "epochs": 20, "seeds": [0]},
    components=5,
    folds=3,
)
TEST_SIZES = {"brain": 60, "liver": 45, "skin": 39}
#: genes that are highest in one tissue, and the first module
HIGHEST = {tissue: np.argsort(sum(CENTRES.values()) / 3 - centre)[:30] for tissue, centre in CENTRES.items()}
GENE_SETS = {name: tuple(f"G{j}" for j in genes) for name, genes in (HIGHEST | {"MODULE": np.arange(30)}).items()}
TIMES = (0.1, 0.5)
COHORT = {"train": draw(SIZES, 0), "validation": draw(TEST_SIZES, 1), "test": draw(TEST_SIZES, 2)}
RNG = np.random.default_rng(0)


def _shrunken(values, labels):
    return (values + np.stack([CENTRES[label] for label in labels])) / 2


def _independent(values, labels):
    return np.concatenate([RNG.permuted(values[labels == label], axis=0) for label in SIZES])


def _copies():
    train = COHORT["train"]
    rows = np.random.default_rng(3).integers(0, train.n_obs, train.n_obs)
    obs = train.obs.iloc[rows].drop(columns="donor").set_axis([f"copy-{i}" for i in range(len(rows))])
    return make_profiles(train.X[rows], obs, train.var, UNIT)


FAULTY = {
    "shifted": lambda: draw(SIZES, 8, lambda x, _: x + RNG.choice([-1, 1], x.shape[1]), donors=False),
    "shrunken": lambda: draw(SIZES, 8, _shrunken, donors=False),
    "mislabelled": lambda: draw(SIZES, 8, lambda x, _: x[::-1], donors=False),
    "independent": lambda: draw(SIZES, 8, _independent, donors=False),
    "copies": _copies,
}


class Losses:
    """A model whose losses know nothing but, if asked to, which donors it was trained on."""

    def __init__(self, members=()):
        self.members = set(members)

    def per_profile_loss(self, profiles, seed, times, *, relative):
        seen = profiles.obs_names.isin(self.members)
        noise = np.random.default_rng([seed, len(profiles)]).normal(size=(len(profiles), len(times)))
        return noise - 4 * seen[:, None]


def scored(profiles, reference, model=None, spaces=SPACES):
    table = score_generator(
        "made",
        profiles if "landmarks" in spaces else profiles[:0],
        {"none": lambda: profiles} if "transcriptome" in spaces else {},
        reference,
        OPTIONS,
    )
    attacked = score_white_box("made", [model or Losses()], COHORT["train"], COHORT["test"], OPTIONS, TIMES)
    return pd.concat([table, attacked])


def means(table):
    """Mean over draws of every metric over all tissues, against its first reference, in its first space."""
    found = table[table["label"] == ""].groupby(["metric", "space", "reference"])["value"].mean()
    return {name: found[name, m.spaces[0], m.references[0]] for name, m in METRICS.items() if name in found.index}


class Scored(NamedTuple):
    """A table of scores, and its means."""

    table: pd.DataFrame
    means: dict[str, float]

    @classmethod
    def of(cls, table):
        return cls(table, means(table))


@pytest.fixture(scope="module")
def reference():
    return EvaluationReference.fit(COHORT, COHORT, GENE_SETS, OPTIONS)


@pytest.fixture(scope="module")
def ceiling(reference):
    return Scored.of(score_real(reference, OPTIONS).query("generator == 'real'"))


@pytest.fixture(scope="module")
def nulls(reference):
    """Fresh draws of the population of the training donors."""
    spaces = (SPACES, ("landmarks",), ("landmarks",))
    return [Scored.of(scored(draw(SIZES, 20 + i, donors=False), reference, spaces=s)) for i, s in enumerate(spaces)]


@pytest.fixture(scope="module")
def faulty(reference):
    tables = {}
    for fault, make in FAULTY.items():
        model = Losses(COHORT["train"].obs_names) if fault == "copies" else None
        spaces = SPACES if fault == "mislabelled" else ("landmarks",)
        tables[fault] = Scored.of(scored(make(), reference, model, spaces))
    return tables


@pytest.fixture(scope="module")
def everything(nulls, ceiling, faulty):
    """All rows, by metric."""
    tables = [part.table for part in (*nulls, ceiling, *faulty.values())]
    return dict(list(pd.concat(tables).groupby("metric")))


@pytest.fixture(scope="module")
def few(reference):
    """Three profiles of every tissue: variances are defined, neighbourhoods and tests are not."""
    return score_generator("few", draw(dict.fromkeys(SIZES, 3), 30, donors=False), {}, reference, OPTIONS)


@pytest.fixture(scope="module")
def reordered(reference):
    """The same profiles in two orders; as many of every tissue as held-out donors, so that every draw takes all."""
    profiles = draw(TEST_SIZES, 40, donors=False)
    order = np.random.default_rng(4).permutation(profiles.n_obs)
    return [means(scored(part, reference, spaces=("landmarks",))) for part in (profiles, profiles[order].copy())]


#: beyond .12 of the null, or of its own size where that is above 1
TOLERANCES = {
    "beta_recall": 0.2,
    "frechet_pca": 0.6,
    "frechet_classifier": 0.6,
    "gene_set_spread": 0.3,
    "gene_set_distance": 0.2,
    "top_overlap": 0.2,
    "contrast_top_overlap": 0.2,
}


@pytest.mark.parametrize("name", METRICS)
def test_samples_of_one_population_score_the_null_or_as_real_donors_do(name, nulls, ceiling):
    metric = METRICS[name]
    found = [part.means[name] for part in nulls if name in part.means]
    if name.endswith("_p"):
        assert np.median(found) > 0.05
        return
    if metric.moved_by == "" and np.isnan(found).all():
        assert nulls[0].table.query("metric == @name and label == ''")["note"].str.contains("needed").all()
        return
    expected = ceiling.means[name] if np.isnan(metric.null) else metric.null
    assert np.mean(found) == pytest.approx(expected, abs=TOLERANCES.get(name, 0.12) * max(1, abs(expected)))


@pytest.mark.parametrize(("name", "fault"), [(n, fault) for n, m in METRICS.items() for fault in m.moved_by.split()])
def test_each_metric_sees_the_faults_that_it_is_there_for(name, fault, nulls, faulty):
    found = faulty[fault[:-1]].means[name]
    if name.endswith("_p"):
        assert found <= 0.01
        return
    usual = [part.means[name] for part in nulls if name in part.means]
    sign = {"+": 1, "-": -1}[fault[-1]]
    # three times the deviation between fresh draws, which of one alone is not known
    noise = max(3 * np.std(usual, ddof=1) if len(usual) > 1 else 0.1, 0.02 * abs(np.mean(usual)))
    assert sign * (found - np.mean(usual)) > noise, f"{found:.3g}, on the null {np.round(usual, 3)}"


def test_plain_faults_are_seen_plainly(faulty, ceiling):
    found, best = {fault: part.means for fault, part in faulty.items()}, ceiling.means
    assert found["copies"]["copying"] > 0.99
    assert found["copies"]["authenticity"] < 0.05
    assert found["shifted"]["precision"] < 0.3
    assert found["shifted"]["two_sample_logistic"] > 0.95
    assert found["shrunken"]["spread"] < 0.6
    assert found["shrunken"]["effect_size_slope"] > 1.2
    assert found["mislabelled"]["accuracy_mlp"] < 0.75
    assert found["mislabelled"]["lfc_correlation"] < 0.5
    for metric in ("module_density", "gene_set_spread", "within_class_correlation"):
        assert found["independent"][metric] < best[metric] - 0.3, metric


def test_faults_are_those_that_are_tried_here():
    assert tuple(FAULTY) == FAULTS
    assert {fault[:-1] for metric in METRICS.values() for fault in metric.moved_by.split()} == set(FAULTS)


@pytest.mark.parametrize("name", METRICS)
def test_values_are_floats_in_the_stated_range_or_have_a_reason(name, everything):
    table = everything[name]
    values = table["value"]
    assert values.dtype == np.float64
    assert (values.isna() == (table["note"] != "")).all()
    assert values.dropna().between(METRICS[name].low - 1e-6, METRICS[name].high + 1e-6).all()


@pytest.mark.parametrize("name", [name for name, m in METRICS.items() if m.deterministic and "landmarks" in m.spaces])
def test_the_order_of_profiles_does_not_matter(name, reordered):
    first, second = (found[name] for found in reordered)
    assert first == pytest.approx(second, abs=2e-4, nan_ok=True)


@pytest.mark.parametrize("name", [name for name, m in METRICS.items() if "landmarks" in m.spaces])
def test_of_too_few_profiles_there_is_no_number_without_its_size_or_a_reason(name, few):
    found = few.query("metric == @name and label == ''")
    assert (found["value"].isna() == (found["note"] != "")).all()
    if METRICS[name].least > 9:
        assert found["value"].isna().all()
        assert found["note"].str.contains(r"fewer than|are needed|at this size").all()
    elif found["value"].notna().any():
        assert set(found["n"]) <= {9, COHORT["test"].n_obs}


def test_one_profile_of_a_tissue_is_refused(reference):
    with pytest.raises(ValueError, match="no class has two"):
        score_generator("one", draw(dict.fromkeys(SIZES, 1), 31, donors=False), {}, reference, OPTIONS)


@pytest.mark.parametrize("space", SPACES)
def test_nan_is_refused_with_its_place(space, reference):
    broken = draw(SIZES, 9, donors=False)
    broken.X[3, 5] = np.nan
    landmarks, others = (broken, {}) if space == "landmarks" else (broken[:0], {"ridge": lambda: broken})
    with pytest.raises(ValueError, match=r"1 values are NaN or infinite, the first in sample '9-3', gene 'G5'"):
        score_generator("broken", landmarks, others, reference, OPTIONS)


@pytest.mark.parametrize("split", COHORT)
def test_nan_among_real_profiles_is_refused(split):
    broken = COHORT[split].copy()
    broken.X[0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        EvaluationReference.fit({**COHORT, split: broken}, COHORT, {}, OPTIONS)
    if split != "validation":
        pair = {**COHORT, split: broken}
        with pytest.raises(ValueError, match="NaN"):
            score_white_box("broken", [Losses()], pair["train"], pair["test"], OPTIONS, TIMES)


def test_every_metric_has_an_entry_and_every_entry_a_metric(nulls, ceiling):
    emitted = pd.concat([nulls[0].table, ceiling.table])
    assert set(emitted["metric"]) == set(METRICS)
    for name, metric in METRICS.items():
        part = emitted.query("metric == @name and label == ''")
        assert set(part["space"]) == set(metric.spaces), name
        assert set(part["reference"]) == set(metric.references), name


def test_a_metric_without_an_entry_is_refused(reference, monkeypatch):
    monkeypatch.setattr(registry, "METRICS", {name: m for name, m in METRICS.items() if name != "spread"})
    with pytest.raises(ValueError, match=r"\['spread'\] have no entry in METRICS"):
        scores.score_generator("made", draw(SIZES, 7, donors=False), {}, reference, OPTIONS)
