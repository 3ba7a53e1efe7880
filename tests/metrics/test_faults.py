"""Which indicator catches which fault: the table of what the indicators are for, on tissues with known structure."""

from functools import cache

import numpy as np
import pytest

from transcriptome_diffusion.metrics.copying import authenticity
from transcriptome_diffusion.metrics.correlation import correlation_score, within_class_correlation
from transcriptome_diffusion.metrics.distances import PrincipalAxes, frechet, kernel_tests, marginal_agreement
from transcriptome_diffusion.metrics.fidelity import support
from transcriptome_diffusion.metrics.neighbours import nearest, neighbour_distances
from transcriptome_diffusion.metrics.options import ClassifierOptions
from transcriptome_diffusion.metrics.profile_set import ProfileSet
from transcriptome_diffusion.metrics.two_sample import classifier_tests
from transcriptome_diffusion.metrics.utility import reverse_validation

GENES, TISSUES, EACH = 120, 4, 30
LABELS = np.repeat(np.arange(TISSUES), EACH)
OPTIONS = ClassifierOptions(hidden=[16], epochs=10, seeds=[0])
POPULATION = np.random.default_rng(42)
CENTRES = POPULATION.normal(0, 0.5, (TISSUES, GENES))
LOADINGS = POPULATION.normal(0, 0.35, (4, GENES))


def population(seed):
    """Four tissues, within each the same four factors and noise."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(len(LABELS), 4)) @ LOADINGS + rng.normal(0, 0.6, (len(LABELS), GENES))
    return (CENTRES[LABELS] + own).astype(np.float32)


def within_tissues(values, change):
    return np.concatenate([change(values[t == LABELS]) for t in range(TISSUES)]).astype(np.float32)


TRAIN, TEST, VALIDATION = population(1), population(2), population(3)
RNG = np.random.default_rng(0)
GENERATORS = {
    "oracle": population(10),
    "shifted": population(11) + np.float32(0.5) * RNG.choice([-1, 1], GENES).astype(np.float32),
    "collapsed": within_tissues(population(12), lambda x: x.mean(axis=0) + 0.5 * (x - x.mean(axis=0))),
    "shuffled labels": RNG.permutation(population(13)),
    "genes renamed": population(14)[:, RNG.permutation(GENES)],
    "genes independent": within_tissues(population(15), lambda x: RNG.permuted(x, axis=0)),
    "memoriser": within_tissues(TRAIN, lambda x: x[RNG.integers(EACH, size=EACH)]),
}

#: what has to lie beyond its null, upwards or downwards, for each fault
CAUGHT = {
    "oracle": "",
    "shifted": "frechet_pca+ mmd+ energy+ wasserstein+ mean_error+ class_mean_r2- logistic+ boosted+ alpha_precision-",
    "collapsed": "frechet_pca+ energy+ sd_ratio- sd_error+ boosted+ wasserstein+ alpha_precision- authenticity-",
    "shuffled labels": "class_mean_r2- auroc_logistic- macro_f1_logistic- within_class_correlation-",
    "genes renamed": "frechet_pca+ mmd+ energy+ wasserstein+ class_mean_r2- boosted+ correlation- auroc_logistic-",
    "genes independent": "within_class_correlation- correlation- frechet_pca+",
    "memoriser": "authenticity_train-",
}
#: and what must not see it, being made for something else; the memoriser is at home in every distance to held-out
BLIND = {
    "shifted": "sd_ratio correlation within_class_correlation",
    "shuffled labels": "wasserstein frechet_pca mmd energy correlation sd_ratio",
    "genes independent": "wasserstein mean_error sd_ratio class_mean_r2 logistic",
    "memoriser": "logistic sd_ratio correlation",
}


def authentic(values, real):
    distances, closest = nearest(values, real)
    return authenticity(distances, neighbour_distances(real, 1)[closest, 0])


def indicators(values, real=TEST):
    pair, labelled = (real, values), (real, LABELS, values, LABELS)
    tests = kernel_tests(*pair, strata=(LABELS, LABELS), permutations=99)
    results = classifier_tests(*pair, strata=(LABELS, LABELS), logistic_c=0.01)
    return {
        "frechet_pca": frechet(*map(PrincipalAxes.fit(TRAIN, 20), pair)),
        **tests,
        **marginal_agreement(*labelled),
        "correlation": correlation_score(*pair),
        "within_class_correlation": within_class_correlation(*labelled),
        "logistic": results["logistic"].auc,
        "boosted": results["boosted"].auc,
        **support(*pair),
        "authenticity": authentic(values, real),
        "authenticity_train": authentic(values, TRAIN),
        **{
            name: runs[0]
            for name, runs in reverse_validation(
                ProfileSet(values, LABELS), ProfileSet(VALIDATION, LABELS), ProfileSet(real, LABELS), OPTIONS
            ).items()
        },
    }


@cache
def null():
    """Mean and deviation of every indicator over pairs of fresh draws of the population."""
    found = [indicators(population(100 + i), population(200 + i)) for i in range(8)]
    return {name: (np.mean(v := [run[name] for run in found]), np.std(v, ddof=1)) for name in found[0]}


@cache
def z_scores(generator):
    found = indicators(GENERATORS[generator])
    return {name: (found[name] - mean) / max(sd, 1e-6) for name, (mean, sd) in null().items()}, found


@pytest.mark.parametrize("generator", GENERATORS)
def test_each_fault_is_caught_by_the_indicators_made_for_it(generator):
    z, found = z_scores(generator)
    for entry in CAUGHT[generator].split():
        name, sign = entry[:-1], {"+": 1, "-": -1}[entry[-1]]
        assert sign * z[name] > 3.5, f"{name} = {found[name]:.3g}, null {null()[name]}"


@pytest.mark.parametrize("generator", BLIND)
def test_and_not_by_those_made_for_others(generator):
    z, found = z_scores(generator)
    for name in BLIND[generator].split():
        assert abs(z[name]) < 6, f"{name} = {found[name]:.3g}, null {null()[name]}"


def test_fresh_draws_of_the_population_sit_at_the_null():
    z, found = z_scores("oracle")
    assert {name: value for name, value in z.items() if abs(value) > 6} == {}
    assert min(found["mmd_p"], found["energy_p"]) > 0.01
    expected = {"mmd": 0, "energy": 0, "logistic": 0.5, "boosted": 0.5, "sd_ratio": 1}
    for name, value in expected.items():
        mean, sd = null()[name]
        assert abs(mean - value) < 4 * sd / np.sqrt(8), name


@pytest.mark.parametrize("generator", ["shifted", "collapsed", "genes renamed"])
def test_permutation_tests_reject_what_is_far(generator):
    assert z_scores(generator)[1]["energy_p"] == 0.01
