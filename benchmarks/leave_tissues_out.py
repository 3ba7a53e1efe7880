"""Some tissues of a cohort as a small, sensitive one, the others as public reference: the tables of docs/privacy.md.

Usage: python -m benchmarks.leave_tissues_out FOLDER TISSUES OUT [--reference FOLDER] [--sizes 5,10,25,50] [--seeds 4]

FOLDER and the reference's hold ``landmarks_train.h5ad``, ``_validation`` and ``_test``, as ``kedro run --to-nodes`` of
feature_landmarks writes them (data/04_feature). OUT.quality.csv, OUT.scores.csv and OUT.worth.csv are written after
every method. A set of four tissues takes some five minutes of processor.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import anndata as ad
import pandas as pd

from transcriptome_diffusion.experiments.augmentation import from_generator, references, score, train_classifiers
from transcriptome_diffusion.experiments.learning_curves import Drawn, axes_of, frontier, needs, quality
from transcriptome_diffusion.experiments.options import AugmentationOptions
from transcriptome_diffusion.expression.reference import prepare_reference
from transcriptome_diffusion.generators.class_gaussian import ClassGaussian
from transcriptome_diffusion.generators.options import ClassGaussianOptions
from transcriptome_diffusion.generators.privacy_options import PrivacyOptions

LABEL = "tissue"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tissues")
    parser.add_argument("out")
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--sizes", default="5,10,25,50")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--budgets", default="1,4,8,16", help="of dp; empty for none")
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
    settings = ClassGaussianOptions()
    methods = {
        "none": None,
        "smote": references(options, LABEL)["smote"],
        "class_gaussian": from_generator(ClassGaussian, settings),
    }
    for name, dial in dials.items():
        methods[f"class_gaussian{name}"] = from_generator(ClassGaussian, settings, reference=public, privacy=dial)
    scores, found, axes = [], [], axes_of(public, LABEL)
    for name, synthesise in methods.items():
        kept: list[Drawn] = []
        trained = train_classifiers(
            name, synthesise, train, validation, options, LABEL, classify="dp" not in name, kept=kept, axes=axes
        )
        scores.append(score(list(trained), test, LABEL))
        if "class" in name:
            found.append(quality(kept, test, LABEL))
            pd.concat(found).to_csv(f"{chosen.out}.quality.csv", index=False)
        pd.concat([part for part in scores if len(part)]).to_csv(f"{chosen.out}.scores.csv", index=False)
    needs(pd.concat([part for part in scores if len(part)])).to_csv(f"{chosen.out}.worth.csv", index=False)
    print(frontier(pd.concat(found)).round(3).to_string())


if __name__ == "__main__":
    main()
