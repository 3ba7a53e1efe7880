"""Learning curves and the frontier as figures: what is drawn where."""

from __future__ import annotations

import pandas as pd

from transcriptome_diffusion.reporting.curves import frontier_figure, learning_curves


def test_the_curve_has_its_band_and_every_method_its_best_ratio():
    columns = ["method", "n_per_tissue", "ratio", "n", "accuracy", "curve", "curve_low", "curve_high"]
    rows = [
        ("none", "10", 0, 10.0, 0.7, 0.71, 0.6, 0.8),
        ("none", "5", 0, 5.0, 0.6, 0.59, 0.5, 0.7),
        ("none", "(predicted)", 0, 20.0, None, 0.8, 0.6, 0.9),
        ("a", "5", 1, 5.0, 0.65, None, None, None),
        ("a", "5", 5, 5.0, 0.68, None, None, None),
    ]
    figure = learning_curves(pd.DataFrame(rows, columns=columns))
    high, low, fitted, real, a = figure.data
    assert list(fitted.x) == [5, 10, 20]
    assert list(high.y) == [0.7, 0.8, 0.9]
    assert list(low.y) == [0.5, 0.6, 0.6]
    assert list(real.y) == [0.6, 0.7, None]
    assert (a.name, list(a.y)) == ("a", [0.68])


def test_the_frontier_shows_the_stronger_attack_at_the_largest_size():
    rows = []
    for size, n in (("5", 20), ("all", 100)):
        for seed in (0, 1):
            for metric, value in {
                "adversarial_accuracy": 0.6 + n / 1000,
                "tstr_balanced_accuracy": 0.9,
                "edges_found": 0.1,
                "edges_false": 0.2,
                "attack_auc": 0.6,
                "known_axes_auc": 0.7 + 0.1 * seed,
            }.items():
                rows.append(("a", size, seed, metric, value, n, ""))
    columns = ["method", "n_per_tissue", "seed", "metric", "value", "real_profiles", "note"]
    figure = frontier_figure(pd.DataFrame(rows, columns=columns))
    assert len(figure.data) == 4
    assert list(figure.data[0].x) == [0.7]
    assert list(figure.data[0].y) == [0.75]
    assert frontier_figure(pd.DataFrame([], columns=columns)).data == ()
