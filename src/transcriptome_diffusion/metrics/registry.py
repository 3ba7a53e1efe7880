"""Every metric of the scorecard: one entry per name, with its range, its null value and how to read it.

To add a metric, emit it in ``metrics.scores`` and enter it here; a name without an entry is refused. Functions are
named by path, so that reading this table imports neither torch nor scikit-learn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pkgutil import resolve_name
from typing import Any, NamedTuple

NAN, INFINITY = math.nan, math.inf
#: where metrics are computed, and the real profiles they compare with
SPACES, REFERENCES = ("landmarks", "transcriptome"), ("test", "train")
#: in the column ``reconstructor``: landmark profiles, and transcriptomes that no reconstructor made
NO_RECONSTRUCTOR = "none"
#: what can be wrong with synthetic profiles: gene means are shifted; too little variance within tissues; labels that
#: do not fit; genes drawn independently of each other; training profiles handed out again
FAULTS = ("shifted", "shrunken", "mislabelled", "independent", "copies")


class Entry(NamedTuple):
    """Lines of the guide: what is measured, how to read its values, what it cannot tell."""

    what: str
    values: str
    limits: str


@dataclass(frozen=True)
class Metric:
    """One metric of the scorecard.

    Attributes:
        name: in the column ``metric``.
        what, values, limits: lines of the guide, as in ``Entry``.
        path: ``module:function`` in ``transcriptome_diffusion.metrics``; metrics may share a function.
        citation: source of the method; empty where it needs none.
        spaces: a part of ``SPACES``. references: a part of ``REFERENCES``.
        ideal: value of a perfect generator with profiles without end; NaN where there is none.
        null: value expected of two samples of one population, whatever their size; NaN where it depends on the size,
            so that the row ``real`` has to be compared with.
        low, high: the range of possible values.
        least: profiles on each side below which the value is NaN. Attacks need donors instead, whatever the profiles.
        deterministic: whether it depends on the profiles alone, and neither on their order nor on a seed.
        moved_by: faults of a generator (``FAULTS``) that have to move it away from the null, each with a direction, as
            in ``shifted+ shrunken-``; empty if it is not meant to see any.
        headline: references in whose first table it stands.
        likeness: whether the tuning objective ``likeness`` compares it with its value for real profiles.
        label: its name for readers. topic: its entry in the guide, which metrics may share.
        group: heading in the report.
    """

    name: str
    what: str
    values: str
    limits: str
    path: str = ""
    citation: str = ""
    spaces: tuple[str, ...] = SPACES
    references: tuple[str, ...] = ("test",)
    ideal: float = NAN
    null: float = NAN
    low: float = 0.0
    high: float = 1.0
    least: int = 2
    deterministic: bool = True
    moved_by: str = ""
    headline: tuple[str, ...] = ()
    likeness: bool = False
    label: str = ""
    topic: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "topic", self.topic or self.name)
        object.__setattr__(self, "label", self.label or self.name.replace("_", " "))

    @property
    def entry(self) -> Entry:
        return Entry(self.what, self.values, self.limits)

    @property
    def function(self) -> Callable[..., Any]:
        """The function that computes it, imported now."""
        return resolve_name(f"transcriptome_diffusion.metrics.{self.path}")


def _variants(metric: Metric, endings: Mapping[str, str], **changes: Any) -> Iterator[Metric]:
    """The metric once per ending of its name, with what the ending adds to its label."""
    for ending, words in endings.items():
        yield replace(metric, name=f"{metric.name}_{ending}", label=f"{metric.label}, {words}", **changes)


_BOTH = REFERENCES
_KYNKAANNIEMI = "Kynkäänniemi et al. (2019), arXiv:1904.06991"
_NAEEM = "Naeem et al. (2020), arXiv:2002.09797"
_YALE = "Yale et al. (2020), doi:10.1016/j.neucom.2019.12.136"
_ALAA = "Alaa et al. (2022), arXiv:2102.08921"
_DOWSON = "Dowson & Landau (1982), doi:10.1016/0047-259X(82)90077-X"
_GRETTON = "Gretton et al. (2012), JMLR 13:723"
_SZEKELY = "Székely & Rizzo (2013), doi:10.1016/j.jspi.2013.03.018"
_VINAS = "Viñas et al. (2022), doi:10.1093/bioinformatics/btab035"
_LOPEZ = "Lopez-Paz & Oquab (2017), arXiv:1610.06545"
_ESTEBAN = "Esteban et al. (2017), arXiv:1706.02633"
_SMYTH = "Smyth (2004), doi:10.2202/1544-6115.1027"
_FULLER = "Fuller (1987), doi:10.1002/9780470316665"
_BERGER = "Berger (1982), doi:10.1080/00401706.1982.10487790"
_LANGFELDER = "Langfelder et al. (2011), doi:10.1371/journal.pcbi.1001057"
_LEE = "Lee et al. (2008), doi:10.1371/journal.pcbi.1000217"
_MEEHAN = "Meehan et al. (2020), arXiv:2004.05675"
_CHEN = "Chen et al. (2020), arXiv:1909.03935"
_VAN_BREUGEL = "van Breugel et al. (2023), arXiv:2302.12580"
_CHEN_2024 = "Chen et al. (2024), doi:10.56553/popets-2024-0062"
_CARLINI = "Carlini et al. (2023), arXiv:2301.13188"
_ZHAO = "Zhao et al. (2021), arXiv:2102.08369"

_DCR: dict[str, Any] = {
    "topic": "dcr",
    "citation": _ZHAO,
    "what": "Median distance to the closest record among training or held-out donors; ratio: the one over the other; "
    "p05: of 5th percentiles.",
    "values": "A ratio of 1 is expected of new profiles, towards 0 copies.",
    "limits": "Passing proves nothing by itself: attacks succeed on generators with a ratio of 1.",
}
_NNDR: dict[str, Any] = {
    "topic": "nndr",
    "citation": _ZHAO,
    "what": "Distance to the closest over that to the second closest record.",
    "values": "Expected of new profiles: the same for training and held-out donors.",
    "limits": "As for the distance to the closest record.",
}
_TWO_SAMPLE_P = Entry(
    "Chance of such an AUC if both were of one distribution.",
    "Small: told apart.",
    "As for the AUC.",
)


# fmt: off
_FIDELITY = [
    Metric("precision",
        "Share of synthetic profiles inside the neighbourhood of a real one.",
        "The real row is the goal. Above it: samples shrunken towards the middle of their tissue.",
        "Nothing of what is missing: one good profile repeated has precision 1.",
        path="fidelity:fidelity", citation=_KYNKAANNIEMI, references=_BOTH, ideal=1, least=30,
        moved_by="shifted-", headline=_BOTH, likeness=True),
    Metric("recall",
        "Share of real profiles inside the neighbourhood of a synthetic one.",
        "The real row is the goal; below it, part of the real variety is not generated.",
        "Scattered samples have wide neighbourhoods and a high recall; on all genes it saturates at 1.",
        path="fidelity:fidelity", citation=_KYNKAANNIEMI, references=_BOTH, ideal=1, least=30,
        moved_by="shrunken-", headline=_BOTH, likeness=True),
    Metric("f1",
        "Harmonic mean of precision and recall.",
        "The real row is the goal.",
        "All that precision and recall hide.",
        path="fidelity:fidelity", citation=_KYNKAANNIEMI, references=_BOTH, ideal=1, least=30,
        moved_by="shifted- shrunken-", headline=("train",)),
    Metric("density",
        "How many real neighbourhoods a synthetic profile lies in, relative to their size.",
        "The real row (near 1) is the goal; well above it means shrinkage, below it profiles off the data.",
        "Rare kinds of profiles hardly count.",
        path="fidelity:fidelity", citation=_NAEEM, references=_BOTH, ideal=1, high=INFINITY, least=30,
        moved_by="shifted- shrunken+", headline=_BOTH, likeness=True),
    Metric("coverage",
        "Share of real neighbourhoods that contain a synthetic profile.",
        "The real row is the goal.",
        "Saturates at 1 early; generators that differ elsewhere often share it.",
        path="fidelity:fidelity", citation=_NAEEM, references=_BOTH, ideal=1, least=30, moved_by="shifted-",
        headline=("train",), likeness=True),
    Metric("spread",
        "Variance within a tissue relative to held-out donors, over all genes.",
        "1 is right. Below 1 samples are too alike, above 1 too scattered.",
        "A sum over genes: some may vary too much and others too little.",
        path="copying:spread", references=_BOTH, ideal=1, null=1, high=INFINITY, moved_by="shrunken-",
        headline=_BOTH, likeness=True),
    Metric("adversarial_accuracy",
        "How well the nearest neighbour tells real from synthetic: the mean of the two halves below.",
        "The row expected, a little below .5, cannot be told apart; 1 always, towards 0 copies.",
        "Opposite errors of the two halves cancel: read them, spread and copying as well.",
        path="fidelity:fidelity", citation=_YALE, references=_BOTH, ideal=0.5, least=30,
        moved_by="shifted+", headline=_BOTH, likeness=True),
    Metric("adversarial_accuracy_real",
        "Share of real profiles whose nearest neighbour is real.",
        "The row expected is the goal; above it synthetic profiles stay away from where real ones are.",
        "Low for copies, and for a crowd of synthetic profiles near the centre.",
        path="fidelity:fidelity", citation=_YALE, references=_BOTH, ideal=0.5, least=30,
        moved_by="shifted+", headline=("test",), label="adv. accuracy, real half"),
    Metric("adversarial_accuracy_synthetic",
        "Share of synthetic profiles whose nearest neighbour is synthetic.",
        "The row expected is the goal; above it synthetic profiles are too much alike, below it they scatter.",
        "Low for copies.",
        path="fidelity:fidelity", citation=_YALE, references=_BOTH, ideal=0.5, least=30,
        moved_by="shrunken+", headline=("test",), label="adv. accuracy, synthetic half"),
    Metric("alpha_precision",
        "Whether distances from the centre of the data are distributed as among real profiles.",
        "The real row is the goal; lower for samples crowded at the centre and for scattered ones.",
        "Looks at the distance from one centre only, not at tissues.",
        path="fidelity:support", citation=_ALAA, ideal=1, low=0, moved_by="shrunken-"),
    Metric("beta_recall",
        "Whether the dense part of the synthetic profiles reaches all real ones.",
        "The real row is the goal.",
        "It may rise when samples are shifted; read it with alpha precision.",
        path="fidelity:support", citation=_ALAA, ideal=1, low=-1),
]

_TWO_SAMPLE = [
    Metric("two_sample_logistic",
        "Cross-validated AUC of a logistic regression that tells synthetic from real profiles.",
        ".5 cannot, 1 always; the real row is the goal.",
        "Sees shifts of genes and their sums. A memoriser passes.",
        path="two_sample:classifier_tests", citation=_LOPEZ, ideal=0.5, null=0.5, least=25, deterministic=False,
        moved_by="shifted+", label="logistic, AUC"),
    Metric("two_sample_logistic_p",
        *_TWO_SAMPLE_P,
        path="two_sample:classifier_tests", citation=_LOPEZ, least=25, deterministic=False, moved_by="shifted-",
        label="logistic, p"),
    Metric("two_sample_boosted",
        "The same with boosted trees, which also see scales, shapes and pairs of genes.",
        ".5 cannot, 1 always; the real row is the goal. The strictest test of realism here.",
        "Says that there is a difference, not whether it matters. A memoriser passes.",
        path="two_sample:classifier_tests", citation=_LOPEZ, ideal=0.5, null=0.5, least=25, deterministic=False,
        moved_by="shifted+ shrunken+", headline=("test",), label="boosted trees, AUC"),
    Metric("two_sample_boosted_p",
        *_TWO_SAMPLE_P,
        path="two_sample:classifier_tests", citation=_LOPEZ, least=25, deterministic=False,
        moved_by="shifted- shrunken-", label="boosted trees, p"),
]

_DISTRIBUTION = [
    Metric("frechet_pca",
        "Squared Fréchet distance of Gaussian fits on the training donors' principal axes.",
        "Lower is closer; the real row is the best to expect, above 0 for finite samples.",
        "Means and covariances only; it separates generators little.",
        path="distances:frechet", citation=_DOWSON, references=_BOTH, ideal=0, high=INFINITY,
        moved_by="shifted+ shrunken+ independent+", headline=_BOTH, label="Fréchet (PCA)"),
    Metric("frechet_classifier",
        "The same in the last hidden layer of a tissue classifier, as the paper does it.",
        "Lower is closer; the real row is the best to expect.",
        "Sees what tells tissues apart, and little else.",
        path="distances:frechet", citation=_DOWSON, references=_BOTH, ideal=0, high=INFINITY,
        moved_by="shifted+", headline=("train",), label="Fréchet (classifier)"),
    Metric("mmd",
        "Maximum mean discrepancy, a distance of whole distributions.",
        "0 for samples of one distribution, larger when they differ.",
        "Weak in many genes: differences of many small correlations stay below its noise.",
        path="distances:kernel_tests", citation=_GRETTON, ideal=0, null=0, low=-1, high=2, deterministic=False,
        moved_by="shifted+"),
    Metric("mmd_p",
        "Share of random relabellings that lie as far apart.",
        "Small: the difference is no chance. Large: this test saw none.",
        "Not seeing a difference is not showing that there is none.",
        path="distances:kernel_tests", citation=_GRETTON, deterministic=False, moved_by="shifted-"),
    Metric("energy",
        "Energy distance, from mean distances between and within the two sets.",
        "0 for samples of one distribution, in training standard deviations.",
        "Sees shifts of the mean best, changed correlations hardly.",
        path="distances:kernel_tests", citation=_SZEKELY, ideal=0, null=0, low=-INFINITY, high=INFINITY,
        deterministic=False, moved_by="shifted+ shrunken+"),
    Metric("energy_p",
        "Share of random relabellings with as large an energy distance.",
        "Small: the difference is no chance.",
        "As for mmd p.",
        path="distances:kernel_tests", citation=_SZEKELY, deterministic=False, moved_by="shifted- shrunken-"),
    Metric("wasserstein",
        "Area between the distribution functions of real and synthetic values, mean over genes.",
        "In training standard deviations; the real row, about .8 / √n, is the best to expect.",
        "Gene by gene: whether genes fit together is not seen.",
        path="distances:marginal_agreement", ideal=0, high=INFINITY, moved_by="shifted+ shrunken+"),
    Metric("wasserstein_q95",
        "The same for the gene at the 95th percentile.",
        "Lower is closer; the real row is the best to expect.",
        "As for Wasserstein.",
        path="distances:marginal_agreement", ideal=0, high=INFINITY, moved_by="shifted+"),
    Metric("mean_error",
        "Difference of gene means, in training standard deviations, mean over genes.",
        "Lower is closer; the real row is the best to expect.",
        "Means only.",
        path="distances:marginal_agreement", ideal=0, high=INFINITY, moved_by="shifted+"),
    Metric("sd_ratio",
        "Standard deviation of a gene over that of real profiles, median over genes.",
        "1 is right, below 1 too even.",
        "Over all tissues together: differences between tissues carry it. Spread looks within.",
        path="distances:marginal_agreement", ideal=1, null=1, high=INFINITY, moved_by="shrunken-",
        label="s.d. ratio"),
    Metric("sd_error",
        "How far that ratio is from 1, in doublings, mean over genes.",
        "Lower is closer; the real row is the best to expect.",
        "As for the ratio.",
        path="distances:marginal_agreement", ideal=0, high=10, moved_by="shrunken+", label="s.d. error"),
    Metric("class_mean_r2",
        "How much of the differences between tissue means is reproduced.",
        "1 exact, 0 as good as one mean for all; the real row is the ceiling.",
        "Means of tissues only; a Gaussian per tissue does it nearly by construction.",
        path="distances:marginal_agreement", ideal=1, low=-INFINITY, moved_by="shifted- mislabelled-",
        label="R² of tissue means"),
    Metric("correlation",
        "Agreement of gene-gene correlations, all tissues pooled.",
        "The real row is the ceiling.",
        "Carried by differences between tissues: right tissue means nearly suffice.",
        path="correlation:correlation_score", citation=_VINAS, references=_BOTH, ideal=1, low=-1, least=3,
        moved_by="independent-", headline=("train",), likeness=True),
    Metric("within_class_correlation",
        "The same within tissues, their means taken off: whether genes vary together as in real donors.",
        "The real row is the ceiling, well below 1 at this sample size.",
        "Linear relations of pairs only.",
        path="correlation:within_class_correlation", citation=_VINAS, ideal=1, low=-1, least=3,
        moved_by="independent- mislabelled-", headline=("test",), label="correlation within tissues"),
]

_UTILITY = [
    Metric("accuracy",
        "A tissue classifier learns from synthetic profiles alone and names the tissue of held-out donors; "
        "mlp is a neural network, logistic a regression; augmented: it learns from real and synthetic together.",
        "The real row (trained on real profiles) is the ceiling.",
        "Clean, too typical profiles teach tissues well: realism is not needed for it.",
        path="utility:predict", citation=_ESTEBAN, ideal=1, moved_by="mislabelled-"),
    Metric("balanced_accuracy",
        "The same, every tissue counting alike.",
        "The real row is the ceiling; 1 / number of tissues by chance.",
        "As for accuracy; small tissues make it uncertain.",
        path="utility:predict", citation=_ESTEBAN, ideal=1, moved_by="mislabelled-"),
    Metric("macro_f1",
        "Mean over tissues of F1 of the same classifier.",
        "As for balanced accuracy.",
        "The same.",
        path="utility:predict", citation=_ESTEBAN, ideal=1, moved_by="mislabelled-"),
    Metric("auroc",
        "Mean over tissues of the area under the ROC curve, each tissue against the rest.",
        ".5 by chance, 1 best; the real row is the ceiling.",
        "Near 1 for almost anything that has the tissues right.",
        path="utility:predict", citation=_ESTEBAN, ideal=1, moved_by="mislabelled-"),
]
#: classifiers of reverse validation; augmented: trained on real and synthetic profiles together
_CLASSIFIERS = {"mlp": "MLP", "logistic": "logistic"}
_AUGMENTED = {f"{name}_augmented": f"{label}, with real" for name, label in _CLASSIFIERS.items()}

_DIFFERENTIAL = [
    Metric("lfc_slope",
        "Slope of synthetic on real log-fold changes between tissues, freed of sampling noise.",
        "1 is right, below 1 differences are washed out.",
        "Differences of means; a Gaussian per tissue has them right.",
        path="biology.differential:agreement", citation=_FULLER, ideal=1, null=1, low=-INFINITY, high=INFINITY,
        moved_by="mislabelled-"),
    Metric("lfc_correlation",
        "Correlation of those log-fold changes over genes.",
        "The real row, replicates of donors, is the ceiling.",
        "As for the slope; hardly separates generators.",
        path="biology.differential:agreement", citation=_SMYTH, ideal=1, low=-1, moved_by="mislabelled-"),
    Metric("effect_size_slope",
        "The same slope in standard deviations within tissues: how sure tests on synthetic profiles are.",
        "1 is right; above 1 tests look surer than on real donors.",
        "Nothing of single genes.",
        path="biology.differential:agreement", citation=_FULLER, ideal=1, null=1, low=-INFINITY, high=INFINITY,
        moved_by="shrunken+ mislabelled-"),
    Metric("sign_agreement",
        "Share of significant genes that differ in the same direction.",
        "1 is best, .5 chance; the real row is the ceiling.",
        "Says nothing of size.",
        path="biology.differential:agreement", citation=_SMYTH, ideal=1, moved_by="mislabelled-"),
    Metric("top_overlap",
        "Share of the most differential genes that are also the most differential among synthetic profiles.",
        "The real row is the ceiling.",
        "Ranks at the top are noisy among real donors already.",
        path="biology.differential:agreement", citation=_SMYTH, ideal=1, moved_by="mislabelled-"),
]
_CONTRAST = Entry(
    "The numbers above for two conditions within tissues, such as tumour and normal (`evaluation.contrast`).",
    "As for the differences between tissues.",
    "Needs profiles that were generated with that condition.",
)

_FINDINGS = [
    Metric("edges_found",
        "Edges of a co-expression network are pairs of genes with |r| above .5 or .3 within tissues: the share of the "
        "real ones that synthetic profiles have.",
        "The real row is the goal: two sets of as many donors share no more.",
        "Profiles whose genes all vary together find every edge; read it with edges false.",
        moved_by="independent-", label="edges found"),
    Metric("edges_false",
        "Share of the synthetic edges that real profiles do not have.",
        "The real row is the goal; lower: only the strongest relations are kept.",
        "Profiles with few edges have few false ones.",
        label="edges false"),
    Metric("q_correlation",
        "Rank correlation over genes of adjusted p-values, of tests between tissues on as many synthetic as real "
        "profiles.",
        "The real row, replicates of donors, is the goal.",
        "Carried by differences of means.",
        citation=_SMYTH, low=-1, moved_by="mislabelled-"),
    Metric("significant_ratio",
        "Number of significant genes (false discovery rate 5 %) among synthetic profiles over that among real ones.",
        "1 is right; above it tests on synthetic profiles find too much.",
        "Says nothing of which genes.",
        citation=_SMYTH, high=INFINITY, moved_by="mislabelled-"),
    Metric("significant_overlap",
        "Jaccard index of the two sets of significant genes.",
        "The real row is the goal.",
        "Genes near the threshold count as much as clear ones.",
        citation=_SMYTH, moved_by="mislabelled-"),
    Metric("attribution_overlap",
        "Share of the 50 genes that a classifier of tissues relies on most, if trained on synthetic profiles, among "
        "those after training on as many real ones.",
        "The real row is the goal; 50 / number of genes by chance.",
        "Of genes that say the same a classifier takes any: far below 1 among real donors too.",
        moved_by="mislabelled-"),
]

_BIOLOGY = [
    Metric("markers_recovered",
        "Share of a tissue's marker genes that synthetic profiles would name as well.",
        "The real row is the ceiling.",
        "Tissues that are close kin have few markers.",
        path="biology.differential:marker_recovery", citation=_BERGER, spaces=("transcriptome",), ideal=1,
        moved_by="mislabelled-"),
    Metric("module_density",
        "How tightly modules of genes vary together within tissues, relative to training donors.",
        "1 as tight; the real row, a little below 1, is the goal; 0 unrelated.",
        "The mean over a module: single pairs may be wrong.",
        path="biology.coexpression:preservation", citation=_LANGFELDER, ideal=1, low=-INFINITY, high=INFINITY,
        moved_by="independent-"),
    Metric("module_connectivity",
        "Whether the same genes are the hubs of their module.",
        "1 the same, 0 unrelated.",
        "Small modules are noisy.",
        path="biology.coexpression:preservation", citation=_LANGFELDER, ideal=1, low=-1,
        moved_by="independent-"),
    Metric("module_correlation",
        "Whether pairs of genes of a module correlate as strongly as in training donors.",
        "1 the same, 0 unrelated; the real row is the ceiling.",
        "Pairs within modules only.",
        path="biology.coexpression:preservation", citation=_LANGFELDER, ideal=1, low=-1,
        moved_by="independent-"),
    Metric("gene_set_means",
        "Correlation over tissues of mean gene-set scores.",
        "1 best; the real row is the ceiling.",
        "Means only.",
        path="biology.gene_sets:gene_set_agreement", citation=_LEE, ideal=1, low=-1, moved_by="mislabelled-"),
    Metric("gene_set_spread",
        "Variance of gene-set scores within tissues relative to real profiles.",
        "1 is right; below 1 the genes of a set no longer rise together.",
        "A mean over sets.",
        path="biology.gene_sets:gene_set_agreement", citation=_LEE, ideal=1, null=1, high=INFINITY,
        moved_by="independent- shrunken-"),
    Metric("gene_set_distance",
        "Distance of the distributions of gene-set scores within tissues.",
        "Lower is closer; the real row is the best to expect.",
        "Each set for itself.",
        path="biology.gene_sets:gene_set_agreement", citation=_LEE, ideal=0, high=INFINITY,
        moved_by="shifted+ mislabelled+"),
]

_COPYING = [
    Metric("authenticity",
        "Share of profiles that are no nearer to their nearest training profile than that is to another.",
        "The real row is the goal, 0 for copies.",
        "Low for shrunken samples too.",
        path="copying:authenticity", citation=_ALAA, references=("train",), moved_by="copies- shrunken-",
        headline=("train",)),
    Metric("copying",
        "Share of profiles nearer to a training profile than 99 % of held-out profiles are.",
        "About .01 is expected of new profiles, the memoriser has 1.",
        "Finds profiles handed out again and nothing subtler: no promise of privacy.",
        path="copying:copied", citation=_MEEHAN, references=("train",), ideal=0.01, null=0.01,
        moved_by="copies+", headline=_BOTH),
]

_ATTACKS = [
    Metric("gan_leaks",
        "Attack: a donor with a close synthetic profile was probably in the training set.",
        "AUC .5 finds nobody, 1 every member; tpr 10 and tpr 1 are the members found at 10 % and 1 % false alarms.",
        "Weak unless profiles are copied; a null result says that this attack fails.",
        path="membership:membership_inference", citation=_CHEN),
    Metric("gan_leaks_calibrated",
        "The same, less how close other real donors are.",
        "As for GAN-leaks.",
        "As for GAN-leaks.",
        path="membership:membership_inference", citation=_CHEN),
    Metric("domias",
        "Attack: where synthetic profiles are denser than real ones, the generator has seen a member; with "
        "kernel densities.",
        "AUC .5 finds nobody, 1 every member.",
        "Kernel densities know little in many genes.",
        path="membership:membership_inference", citation=_VAN_BREUGEL),
    Metric("domias_gaussian",
        "The same with a Gaussian per tissue. The strongest attack on profiles here.",
        "AUC .5 finds nobody, 1 every member. The real row has had no member to leak.",
        "A stronger attack may exist; .5 is no proof.",
        path="membership:membership_inference", citation=_VAN_BREUGEL),
    *(Metric(name,
        "White-box attack on the diffusion models' weights: members have a lower loss. Relative: less the loss of a "
        "network that says zero.",
        "AUC .5 finds nobody, 1 every member.",
        "Needs the weights; only for diffusion and flow matching.",
        path="membership:loss_attack", citation=_CARLINI, topic="loss_attack")
      for name in ("loss_attack", "loss_attack_relative")),
]
#: names of the membership attacks; each has a metric ``{attack}_{rate}`` for every one of ``RATES``
ATTACKS = tuple(attack.name for attack in _ATTACKS)
#: endings of an attack's metrics, with the value at which nobody is recognised
RATES = {"auc": 0.5, "tpr_10": 0.1, "tpr_1": 0.01}

_RECORDS = [
    Metric("dcr_train", **_DCR, high=INFINITY, moved_by="copies-"),
    Metric("dcr_held_out", **_DCR, high=INFINITY),
    Metric("dcr_ratio", **_DCR, null=1, high=INFINITY, moved_by="copies-"),
    Metric("dcr_train_p05", **_DCR, high=INFINITY, moved_by="copies-"),
    Metric("dcr_held_out_p05", **_DCR, high=INFINITY),
    Metric("dcr_ratio_p05", **_DCR, null=1, high=INFINITY, moved_by="copies-"),
    Metric("nndr_train", **_NNDR, moved_by="copies-"),
    Metric("nndr_held_out", **_NNDR),
    Metric("nndr_train_p05", **_NNDR, moved_by="copies-"),
    Metric("nndr_held_out_p05", **_NNDR),
    Metric("nndr_difference_p05", **_NNDR, null=0, low=-1, moved_by="copies+"),
    Metric("closer_to_train",
        "Share of profiles nearer to a training than to a held-out donor.",
        ".5 is expected of new profiles, 1 of copies.",
        "Blind to leaks that no single profile shows.",
        null=0.5, moved_by="copies+"),
    Metric("privacy_loss",
        "Adversarial accuracy against held-out less that against training donors.",
        "0 is expected of new profiles, .5 of copies.",
        "As above.",
        citation=_YALE, null=0, low=-1, moved_by="copies+"),
]
# fmt: on


def _utility() -> Iterator[Metric]:
    for metric in _UTILITY:
        yield from _variants(metric, _CLASSIFIERS)
        # real profiles beside mislabelled ones may outvote them
        yield from _variants(metric, _AUGMENTED, spaces=("landmarks",), moved_by="")


def _biology() -> Iterator[Metric]:
    yield from _DIFFERENTIAL
    for metric in _DIFFERENTIAL:
        name, label = f"contrast_{metric.name}", f"contrast, {metric.label}"
        lines = _CONTRAST._asdict()
        yield replace(metric, name=name, label=label, topic="contrast", moved_by="mislabelled-", **lines)
    for metric in _FINDINGS:
        name = "compare_findings"
        entry = replace(
            metric, path=f"biology.findings:{name}", citation=metric.citation or _CHEN_2024, spaces=("landmarks",),
            ideal=0 if "false" in metric.name else 1,
        )  # fmt: skip
        if "edges" in metric.name:
            yield from _variants(entry, {"50": "|r| > .5", "30": "|r| > .3"})
        else:
            yield entry
    yield from _BIOLOGY


def _privacy() -> Iterator[Metric]:
    """Copies, attacks and distances to closest records, which are computed on landmarks alone."""
    yield from _COPYING
    here: dict[str, Any] = {"spaces": ("landmarks",), "references": ("train",)}
    for attack in _ATTACKS:
        for rate, null in RATES.items():
            # needs hundreds of held-out donors, and says so where they are not there
            sees = "" if rate == "tpr_1" else "copies+"
            ending = {rate: "AUC" if rate == "auc" else rate.replace("_", " ")}
            yield from _variants(attack, ending, **here, ideal=null, null=null, moved_by=sees)
    for metric in _RECORDS:
        yield replace(metric, **here, path="privacy:record_distances", ideal=metric.null, least=20, deterministic=False)


_GROUPS: dict[str, Iterable[Metric]] = {
    "Fidelity and diversity": _FIDELITY,
    "Classifier two-sample tests": _TWO_SAMPLE,
    "Distribution": _DISTRIBUTION,
    "Use as training data": _utility(),
    "Biology": _biology(),
    "Copies and privacy": _privacy(),
}
#: what single variants have of their own
_CHANGES: dict[str, dict[str, Any]] = {
    "balanced_accuracy_mlp": {"headline": ("test",)},
    "domias_gaussian_auc": {"headline": ("test",), "label": "membership attack, AUC"},
}
#: every metric by its name, in the order of the report
METRICS: dict[str, Metric] = {
    metric.name: replace(metric, group=group, **_CHANGES.get(metric.name, {}))
    for group, metrics in _GROUPS.items()
    for metric in metrics
}


def select(path: str = "", *, headline: str = "", likeness: bool = False) -> tuple[str, ...]:
    """Names of metrics, in the order of ``METRICS``.

    Args:
        path: of the function that computes them, such as ``fidelity:fidelity``. headline: a reference in whose first
            table they stand. likeness: those that the tuning objective compares.
    """
    return tuple(
        name
        for name, metric in METRICS.items()
        if (not path or metric.path == path)
        and (not headline or headline in metric.headline)
        and (not likeness or metric.likeness)
    )


def require_registered(names: Iterable[str]) -> None:
    """Refuse metrics that are not in ``METRICS``.

    Raises:
        ValueError: naming them.
    """
    if unknown := [name for name in dict.fromkeys(names) if name not in METRICS]:
        raise ValueError(f"the metrics {unknown} have no entry in METRICS; describe them in metrics/registry.py.")
