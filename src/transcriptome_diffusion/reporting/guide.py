"""Every indicator in plain language: what it is, what its values mean, and what it cannot tell."""

from __future__ import annotations

import re
from typing import NamedTuple


class Entry(NamedTuple):
    """Lines of the guide: what is measured, what which value means, what stays hidden."""

    what: str
    values: str
    limits: str


#: groups of indicators in the order of the report; the scorecard's tables are grouped alike
GUIDE: dict[str, dict[str, Entry]] = {
    "Fidelity and diversity": {
        "precision": Entry(
            "Share of synthetic profiles inside the neighbourhood of a real one.",
            "The real row is the goal. Above it: samples shrunken towards the middle of their tissue.",
            "Nothing of what is missing: one good profile repeated has precision 1.",
        ),
        "recall": Entry(
            "Share of real profiles inside the neighbourhood of a synthetic one.",
            "The real row is the goal; below it, part of the real variety is not made.",
            "Scattered samples have wide neighbourhoods and a high recall; on all genes it saturates at 1.",
        ),
        "f1": Entry(
            "Harmonic mean of precision and recall.",
            "The real row is the goal.",
            "All that precision and recall hide.",
        ),
        "density": Entry(
            "How many real neighbourhoods a synthetic profile lies in, relative to their size.",
            "The real row (near 1) is the goal; well above it means shrinkage, below it profiles off the data.",
            "Rare kinds of profiles hardly count.",
        ),
        "coverage": Entry(
            "Share of real neighbourhoods that hold a synthetic profile.",
            "The real row is the goal.",
            "Saturates at 1 early; generators that differ elsewhere often share it.",
        ),
        "spread": Entry(
            "Variance within a tissue relative to held-out donors, over all genes.",
            "1 is right. Below 1 samples are too alike, above 1 too scattered.",
            "A sum over genes: some may vary too much and others too little.",
        ),
        "adversarial_accuracy": Entry(
            "How well the nearest neighbour tells real from synthetic.",
            ".5 cannot be told apart, 1 always, towards 0 copies. Read it against the real row.",
            "Profiles that vary too little or are copied lower it as well; see spread and copying.",
        ),
        "alpha_precision": Entry(
            "Whether distances from the centre of the data are distributed as among real profiles.",
            "The real row is the goal; lower for samples crowded at the centre and for scattered ones.",
            "Looks at the distance from one centre only, not at tissues.",
        ),
        "beta_recall": Entry(
            "Whether the dense part of the synthetic profiles reaches all real ones.",
            "The real row is the goal.",
            "It may rise when samples are shifted; read it with alpha precision.",
        ),
    },
    "Distribution": {
        "frechet_pca": Entry(
            "Squared Fréchet distance of Gaussian fits on the training donors' principal axes.",
            "Lower is closer; the real row is the best to expect, above 0 for finite samples.",
            "Means and covariances only; it separates generators little.",
        ),
        "frechet_classifier": Entry(
            "The same in the last hidden layer of a tissue classifier, as the paper does it.",
            "Lower is closer; the real row is the best to expect.",
            "Sees what tells tissues apart, and little else.",
        ),
        "mmd": Entry(
            "Maximum mean discrepancy, a distance of whole distributions.",
            "0 for samples of one distribution, larger when they differ.",
            "Weak in many genes: differences of many small correlations stay below its noise.",
        ),
        "mmd_p": Entry(
            "Share of random relabellings that lie as far apart.",
            "Small: the difference is no chance. Large: this test saw none.",
            "Not seeing a difference is not showing that there is none.",
        ),
        "energy": Entry(
            "Energy distance, from mean distances between and within the two sets.",
            "0 for samples of one distribution, in training standard deviations.",
            "Sees shifts of the mean best, changed correlations hardly.",
        ),
        "energy_p": Entry(
            "Share of random relabellings with as large an energy distance.",
            "Small: the difference is no chance.",
            "As for mmd p.",
        ),
        "wasserstein": Entry(
            "Area between the distribution functions of real and synthetic values, mean over genes.",
            "In training standard deviations; the real row, about .8 / √n, is the best to expect.",
            "Gene by gene: whether genes fit together is not seen.",
        ),
        "wasserstein_q95": Entry(
            "The same for the gene at the 95th percentile.",
            "Lower is closer; the real row is the best to expect.",
            "As for Wasserstein.",
        ),
        "mean_error": Entry(
            "Difference of gene means, in training standard deviations, mean over genes.",
            "Lower is closer; the real row is the best to expect.",
            "Means only.",
        ),
        "sd_ratio": Entry(
            "Standard deviation of a gene over that of real profiles, median over genes.",
            "1 is right, below 1 too even.",
            "Over all tissues together: differences between tissues carry it. Spread looks within.",
        ),
        "sd_error": Entry(
            "How far that ratio is from 1, in doublings, mean over genes.",
            "Lower is closer; the real row is the best to expect.",
            "As for the ratio.",
        ),
        "class_mean_r2": Entry(
            "How much of the differences between tissue means is reproduced.",
            "1 exact, 0 as good as one mean for all; the real row is the ceiling.",
            "Means of tissues only; a Gaussian per tissue does it nearly by construction.",
        ),
        "correlation": Entry(
            "Agreement of gene-gene correlations, all tissues pooled.",
            "The real row is the ceiling.",
            "Carried by differences between tissues: right tissue means nearly suffice.",
        ),
        "within_class_correlation": Entry(
            "The same within tissues, their means taken off: whether genes vary together as in real donors.",
            "The real row is the ceiling, well below 1 at this sample size.",
            "Linear relations of pairs only.",
        ),
    },
    "Told apart by a classifier": {
        "two_sample_logistic": Entry(
            "Cross-validated AUC of a logistic regression that tells synthetic from real profiles.",
            ".5 cannot, 1 always; the real row is the goal.",
            "Sees shifts of genes and their sums. A memoriser passes.",
        ),
        "two_sample_logistic_p": Entry(
            "Chance of such an AUC if both were of one distribution.",
            "Small: told apart.",
            "As for the AUC.",
        ),
        "two_sample_boosted": Entry(
            "The same with boosted trees, which also see scales, shapes and pairs of genes.",
            ".5 cannot, 1 always; the real row is the goal. The strictest test of realism here.",
            "Says that there is a difference, not whether it matters. A memoriser passes.",
        ),
        "two_sample_boosted_p": Entry(
            "Chance of such an AUC if both were of one distribution.",
            "Small: told apart.",
            "As for the AUC.",
        ),
    },
    "Use as training data": {
        "accuracy": Entry(
            "A tissue classifier learns from synthetic profiles alone and names the tissue of held-out donors; "
            "mlp is a neural network, logistic a regression; augmented: it learns from real and synthetic together.",
            "The real row (trained on real profiles) is the ceiling.",
            "Clean, too typical profiles teach tissues well: realism is not needed for it.",
        ),
        "balanced_accuracy": Entry(
            "The same, every tissue counting alike.",
            "The real row is the ceiling; 1 / number of tissues by chance.",
            "As for accuracy; small tissues make it uncertain.",
        ),
        "macro_f1": Entry("Mean over tissues of F1 of the same classifier.", "As for balanced accuracy.", "The same."),
        "auroc": Entry(
            "Mean over tissues of the area under the ROC curve, each tissue against the rest.",
            ".5 by chance, 1 best; the real row is the ceiling.",
            "Near 1 for almost anything that has the tissues right.",
        ),
    },
    "Biology": {
        "lfc_slope": Entry(
            "Slope of synthetic on real log-fold changes between tissues, freed of sampling noise.",
            "1 is right, below 1 differences are washed out.",
            "Differences of means; a Gaussian per tissue has them right.",
        ),
        "lfc_correlation": Entry(
            "Correlation of those log-fold changes over genes.",
            "The real row, replicates of donors, is the ceiling.",
            "As for the slope; hardly separates generators.",
        ),
        "effect_size_slope": Entry(
            "The same slope in standard deviations within tissues: how sure tests on synthetic profiles are.",
            "1 is right; above 1 tests look surer than on real donors.",
            "Nothing of single genes.",
        ),
        "sign_agreement": Entry(
            "Share of significant genes that differ in the same direction.",
            "1 is best, .5 chance; the real row is the ceiling.",
            "Says nothing of size.",
        ),
        "top_overlap": Entry(
            "Share of the most differential genes that are also the most differential among synthetic profiles.",
            "The real row is the ceiling.",
            "Ranks at the top are noisy among real donors already.",
        ),
        "markers_recovered": Entry(
            "Share of a tissue's marker genes that synthetic profiles would name as well.",
            "The real row is the ceiling.",
            "Tissues that are close kin have few markers.",
        ),
        "module_density": Entry(
            "How tightly modules of genes vary together within tissues, relative to training donors.",
            "1 as tight; the real row, a little below 1, is the goal; 0 unrelated.",
            "The mean over a module: single pairs may be wrong.",
        ),
        "module_connectivity": Entry(
            "Whether the same genes are the hubs of their module.",
            "1 the same, 0 unrelated.",
            "Small modules are noisy.",
        ),
        "module_correlation": Entry(
            "Whether pairs of genes of a module correlate as strongly as in training donors.",
            "1 the same, 0 unrelated; the real row is the ceiling.",
            "Pairs within modules only.",
        ),
        "gene_set_means": Entry(
            "Correlation over tissues of mean gene-set scores.", "1 best; the real row is the ceiling.", "Means only."
        ),
        "gene_set_spread": Entry(
            "Variance of gene-set scores within tissues relative to real profiles.",
            "1 is right; below 1 the genes of a set no longer rise together.",
            "A mean over sets.",
        ),
        "gene_set_distance": Entry(
            "Distance of the distributions of gene-set scores within tissues.",
            "Lower is closer; the real row is the best to expect.",
            "Each set for itself.",
        ),
    },
    "Copies and privacy": {
        "copying": Entry(
            "Share of profiles nearer to a training profile than 99 % of held-out profiles are.",
            "About .01 is innocent, the memoriser has 1.",
            "Finds profiles handed out again and nothing subtler: no promise of privacy.",
        ),
        "authenticity": Entry(
            "Share of profiles that are no nearer to their nearest training profile than that is to another.",
            "The real row is the goal, 0 for copies.",
            "Low for shrunken samples too.",
        ),
        "gan_leaks": Entry(
            "Attack: a donor with a close synthetic profile was probably in the training set.",
            "AUC .5 finds nobody, 1 every member; tpr 10 and tpr 1 are the members found at 10 % and 1 % false alarms.",
            "Weak unless profiles are copied; a null result says that this attack fails.",
        ),
        "gan_leaks_calibrated": Entry(
            "The same, less how close other real donors are.",
            "As for GAN-leaks.",
            "As for GAN-leaks.",
        ),
        "domias": Entry(
            "Attack: where synthetic profiles are denser than real ones, the generator has seen a member; "
            "with kernel densities.",
            "AUC .5 finds nobody, 1 every member.",
            "Kernel densities know little in many genes.",
        ),
        "domias_gaussian": Entry(
            "The same with a Gaussian per tissue. The strongest attack on profiles here.",
            "AUC .5 finds nobody, 1 every member. The real row has had no member to leak.",
            "A stronger attack may exist; .5 is no proof.",
        ),
        "loss_attack": Entry(
            "White-box attack on the diffusion models' weights: members have a lower loss. Relative: less the "
            "loss of a network that says zero.",
            "AUC .5 finds nobody, 1 every member.",
            "Needs the weights; only for diffusion and flow matching.",
        ),
        "dcr": Entry(
            "Median distance to the closest record among training or held-out donors; ratio: the one over the other; "
            "p05: of 5th percentiles.",
            "A ratio of 1 is innocent, towards 0 copies.",
            "Passing proves nothing by itself: attacks succeed on generators with a ratio of 1.",
        ),
        "nndr": Entry(
            "Distance to the closest over that to the second closest record.",
            "The same for training and held-out donors is innocent.",
            "As for the distance to the closest record.",
        ),
        "closer_to_train": Entry(
            "Share of profiles nearer to a training than to a held-out donor.",
            ".5 is innocent, 1 copies.",
            "Blind to leaks that no single profile shows.",
        ),
        "privacy_loss": Entry(
            "Adversarial accuracy against held-out less that against training donors.",
            "0 is innocent, .5 copies.",
            "As above.",
        ),
    },
}

#: short names where the metric's own reads badly
LABELS = {
    "two_sample_boosted": "boosted trees, AUC",
    "two_sample_logistic": "logistic, AUC",
    "two_sample_boosted_p": "boosted trees, p",
    "two_sample_logistic_p": "logistic, p",
    "within_class_correlation": "correlation within tissues",
    "frechet_pca": "Fréchet (PCA)",
    "frechet_classifier": "Fréchet (classifier)",
    "class_mean_r2": "R² of tissue means",
    "domias_gaussian_auc": "membership attack, AUC",
    "sd_ratio": "s.d. ratio",
    "sd_error": "s.d. error",
}


def label(metric: str) -> str:
    """What a reader calls an indicator: ``balanced accuracy, MLP`` for ``balanced_accuracy_mlp``."""
    if metric in LABELS:
        return LABELS[metric]
    name = re.sub(r"_mlp(?=$|_)", ", MLP", re.sub(r"(?<!sample)_logistic(?=$|_)", ", logistic", metric))
    return re.sub(r"_augmented$", ", with real", name).replace("_", " ")


def explain(metric: str) -> tuple[str, Entry] | None:
    """The group of an indicator and its lines; suffixes for a classifier or an attack's numbers do not matter."""
    known = {name: (group, entry) for group, entries in GUIDE.items() for name, entry in entries.items()}
    stem = re.sub(r"(_(mlp|logistic))?(_augmented)?$|_(auc|tpr_\d+)$", "", metric)
    stem = re.sub(r"^(dcr|nndr|loss_attack)_.*", r"\1", stem)
    return known.get(metric) or known.get(stem)


def grouped(metrics: list[str]) -> dict[str, list[str]]:
    """Indicators by group, in the guide's order; what the guide does not know comes last, as ``Other``."""
    order = {name: place for place, name in enumerate(name for entries in GUIDE.values() for name in entries)}
    groups: dict[str, list[str]] = {group: [] for group in (*GUIDE, "Other")}
    for metric in metrics:
        found = explain(metric)
        groups[found[0] if found else "Other"].append(metric)
    for members in groups.values():
        members.sort(
            key=lambda m: next((order[n] for n in sorted(order, key=len, reverse=True) if m.startswith(n)), -1)
        )
    return {group: members for group, members in groups.items() if members}
