"""Some tissues of a cohort as a small, sensitive one, the others as public reference: the tables of docs/privacy.md.

Usage: python -m benchmarks.leave_tissues_out FOLDER TISSUES OUT [--reference FOLDER] [--sizes 5,10,25,50] [--seeds 4]
    [--generator class_gaussian] [--budgets 1,4,8] [--sgd .3]

FOLDER and the reference's hold ``landmarks_train.h5ad``, ``_validation`` and ``_test``, as ``kedro run --to-nodes`` of
feature_landmarks writes them (data/04_feature). OUT.quality.csv, OUT.scores.csv, OUT.worth.csv and, of the attacks on
the models themselves, OUT.white_box.csv are written after every method. A set of four tissues takes some five minutes
of processor; with a network some three minutes per size and seed. ``--sgd`` adds rows of ``dp`` whose network DP-SGD
fine-tunes with that share of the squared signal.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd

from transcriptome_diffusion.experiments.augmentation import Synthesise, references, score, train_classifiers
from transcriptome_diffusion.experiments.learning_curves import Drawn, axes_of, frontier, needs, quality
from transcriptome_diffusion.experiments.options import AugmentationOptions
from transcriptome_diffusion.experiments.release import white_box
from transcriptome_diffusion.expression.profiles import dense
from transcriptome_diffusion.expression.reference import prepare_reference
from transcriptome_diffusion.generators.pretrained import fit
from transcriptome_diffusion.generators.privacy_options import DPSGDOptions, PrivacyOptions
from transcriptome_diffusion.generators.registry import GENERATORS
from transcriptome_diffusion.generators.runs import SEED_STEP

LABEL = "tissue"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tissues")
    parser.add_argument("out")
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--sizes", default="5,10,25,50")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--generator", default="class_gaussian")
    parser.add_argument("--budgets", default="1,4,8,16", help="of dp; empty for none")
    parser.add_argument("--sgd", type=float, default=0.0)
    parser.add_argument("--only", help="comma-separated names of methods")
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)
    targets = chosen.tissues.split(",")

    def read(folder: Path, split: str, others: bool = False) -> ad.AnnData:
        profiles = ad.read_h5ad(folder / f"landmarks_{split}.h5ad")
        return profiles[(profiles.obs[LABEL].isin(targets) != others).to_numpy()].copy()

    train, validation, test = (read(chosen.folder, split) for split in ("train", "validation", "test"))
    public = prepare_reference(read(chosen.reference or chosen.folder, "train", others=True), train.var, LABEL)
    options = AugmentationOptions(
        profiles_per_label=[int(size) for size in chosen.sizes.split(",")],
        ratios=[1, 5],
        seeds=list(range(chosen.seeds)),
        classifiers=["logistic"],
    )
    dials = {"+reference": PrivacyOptions(), "+reference_axes": PrivacyOptions(dial="reference_axes")}
    for budget in filter(None, chosen.budgets.split(",")):
        dials[f"+dp_{budget}"] = PrivacyOptions(dial="dp", epsilon=float(budget))
        if chosen.sgd:
            sgd = DPSGDOptions(share=chosen.sgd)
            dials[f"+dp_{budget}_sgd"] = PrivacyOptions(dial="dp", epsilon=float(budget), dp_sgd=sgd)
    spec, name = GENERATORS[chosen.generator], chosen.generator
    cls, settings = spec.load_class(), spec.options()
    how = {"sampler": spec.sampler(name=name)} if spec.sampler else {}
    attacked: list[dict[str, object]] = []

    def drawing(method: str, dial: PrivacyOptions | None) -> Synthesise:
        """As ``augmentation.from_generator``; what has been trained is attacked before it is forgotten."""

        def synthesise(few: ad.AnnData, seen: ad.AnnData, labels: pd.DataFrame, seed: int) -> np.ndarray:
            own = settings.model_copy(update={"seed": settings.seed + SEED_STEP * seed})
            rng = np.random.default_rng([own.seed, few.n_obs])
            model = fit(cls, few, seen, own, None if dial is None else public, dial or PrivacyOptions(), rng)
            for attack, found in white_box(model, few, test, LABEL).items():
                row = {metric.removeprefix(f"{attack}_"): one.value for metric, one in found.items()}
                attacked.append({"method": method, "profiles": few.n_obs, "seed": seed, "attack": attack, **row})
            return dense(model.sample(labels, seed=own.seed, **how))

        return synthesise

    methods = {"none": None, "smote": references(options, LABEL)["smote"], name: drawing(name, None)}
    for ending, dial in dials.items():
        methods[name + ending] = drawing(name + ending, dial)
    if chosen.only:
        methods = {method: one for method, one in methods.items() if method in chosen.only.split(",")}
    scores, found, axes = [], [], axes_of(public, LABEL)
    for name, synthesise in methods.items():
        kept: list[Drawn] = []
        trained = train_classifiers(
            name, synthesise, train, validation, options, LABEL, classify="+dp_" not in name, kept=kept, axes=axes
        )
        scores.append(score(list(trained), test, LABEL))
        if name.startswith(chosen.generator):
            found.append(quality(kept, test, LABEL))
            pd.concat(found).to_csv(f"{chosen.out}.quality.csv", index=False)
            pd.DataFrame(attacked).to_csv(f"{chosen.out}.white_box.csv", index=False)
        if any(map(len, scores)):
            pd.concat([part for part in scores if len(part)]).to_csv(f"{chosen.out}.scores.csv", index=False)
    if "none" in methods:
        needs(pd.concat([part for part in scores if len(part)])).to_csv(f"{chosen.out}.worth.csv", index=False)
    print(frontier(pd.concat(found)).round(3).to_string())


if __name__ == "__main__":
    main()
