import numpy as np
import pandas as pd
import pytest

from transcriptome_diffusion.reporting.figures import augmentation_curves


def table(metric="balanced_accuracy_mlp"):
    values = {
        ("none", "5", 0): (0.5, 0.7),
        ("smote", "5", 1): (0.6, 0.8),
        ("smote", "5", 4): (0.7, 0.9),
        ("none", "all", 0): (0.9, 0.9),
        ("smote", "all", 1): (0.9, 1.0),
        ("smote", "all", 4): (np.nan, np.nan),  # a training that broke down
    }
    rows = [(*key, seed, metric, value) for key, pair in values.items() for seed, value in enumerate(pair)]
    return pd.DataFrame(rows, columns=["method", "n_per_tissue", "ratio", "seed", "metric", "value"])


def test_every_method_starts_at_real_profiles_alone_and_shows_means_with_their_spread():
    figure = augmentation_curves(table())
    few, whole = figure.data
    assert [note.text for note in figure.layout.annotations] == ["5 real per tissue", "all real profiles"]
    assert few.name == "smote"
    assert list(few.x) == [0, 1, 4]
    assert list(few.y) == [0.6, 0.7, 0.8]
    assert few.error_y.array[1] == pytest.approx(np.std([0.6, 0.8], ddof=1), abs=1e-4)
    assert whole.y[1] == 0.95
    assert whole.y[2] is None
    assert (few.showlegend, whole.showlegend) == (True, False)
    assert [line.y0 for line in figure.layout.shapes] == [0.6, 0.9]


def test_without_the_perceptron_another_classifier_is_shown():
    figure = augmentation_curves(table("balanced_accuracy_logistic"))
    assert figure.layout.yaxis.title.text == "balanced accuracy logistic"
