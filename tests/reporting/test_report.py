import re

import numpy as np
import pandas as pd

from transcriptome_diffusion.reporting import training_log
from transcriptome_diffusion.reporting.figures import pca_comparison, precision_recall_plane
from transcriptome_diffusion.reporting.report import build_report
from transcriptome_diffusion.reporting.scorecard import collect


def indicators():
    rng = np.random.default_rng(0)
    rows = []
    for name in ("real", "memoriser", "class_gaussian", "class_kde", "ddpm"):
        for metric in ("precision", "recall", "density"):
            for reference in ("test", "train"):
                for run in range(3):
                    rows.append((name, "none", "landmarks", reference, metric, run, 0, rng.random(), 50))
    return pd.DataFrame(
        rows, columns=["generator", "reconstructor", "space", "reference", "metric", "run", "draw", "value", "n"]
    )


def test_the_report_stands_alone_and_shows_what_it_was_given():
    rng = np.random.default_rng(1)
    train, held_out, fake = (rng.normal(size=(n, 5)) for n in (40, 20, 30))
    card = collect([indicators()])
    figures = {
        "PCA": pca_comparison(train, held_out, np.repeat(["a", "b"], 10), {"ddpm": (fake, np.repeat(["a", "b"], 15))}),
        "Plane": precision_recall_plane(card),
    }
    point = {"step": 1, "epoch": 1, "train_loss": 1.0, "validation_loss": 0.9, "learning_rate": 1e-3, "seconds": 1}
    records = [{"curve": [point], "steps": 1, "stopped": "exploded <here>"}]
    trainings = training_log.summary("vae", records)
    curve = training_log.figure("vae", training_log.curves(records))
    cohort = pd.DataFrame({"tissue": ["<liver>"], "split": ["train"], "samples": [3], "donors": [2]})
    quality = pd.DataFrame({"reconstructor": ["ridge"], "r2_median": [0.51]})
    html = build_report(card, cohort, quality, trainings, figures, [curve], {"unit": "log2(TPM + 1)"})
    assert not re.search(r"""<(script|link)[^>]+(src|href)=["']https?://""", html)
    assert "&lt;liver&gt;" in html
    assert "<liver>" not in html
    assert "50 profiles on each side" in html
    assert "exploded &lt;here&gt;" in html
    assert "between 3 training runs" in html
    for text in ("ddpm", "Training of vae", "log2(TPM + 1)", "0.51", *figures):
        assert text in html


def test_principal_components_come_from_train_alone():
    rng = np.random.default_rng(2)
    train = rng.normal(size=(200, 3)) * [10, 1, 0.1]
    held_out = rng.normal(size=(20, 3)) * [0.1, 0.1, 50]  # would turn the axes if it took part
    figure = pca_comparison(train, held_out, np.repeat("a", 20), {})
    assert np.abs(np.asarray(figure.data[0].x, dtype=float)).max() < 10
