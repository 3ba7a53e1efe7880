"""Figures of genes."""

import numpy as np
import pytest

from transcriptome_diffusion.metrics.biology.coexpression import within_correlation
from transcriptome_diffusion.reporting.genes import ENDS, MAPPED, correlation_maps, fold_changes, marginal_densities

GENES = 200
SYMBOLS = [f"G{i}" for i in range(GENES)]


def cohort(n, seed, modules=True):
    """Two tissues; the first 40 genes vary most, in two modules that lie mixed."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["liver", "lung"], n)
    values = rng.normal(size=(2 * n, GENES)) + 5 * (labels == "lung")[:, None] * (np.arange(GENES) % 3 == 0)
    values[:, :40] *= 3
    if modules:
        hidden = rng.normal(size=(2 * n, 2))
        values[:, :40] += 9 * hidden[:, np.arange(40) % 2]
    return values + 8, labels


def test_modules_of_train_are_blocks_in_every_panel_that_has_them():
    figure = correlation_maps(cohort(100, 0), {"real": cohort(100, 1), "none": cohort(100, 2, modules=False)}, SYMBOLS)
    assert [note.text for note in figure.layout.annotations] == ["training donors", "real", "none"]
    train, real, none = (np.array(heat.z) for heat in figure.data)
    assert train.shape == (MAPPED, MAPPED)
    names = list(figure.data[0].x)
    strong = [i for i, name in enumerate(names) if int(name[1:]) < 40]
    assert len(strong) == 40
    parity = np.array([int(names[i][1:]) % 2 for i in strong])
    assert np.abs(np.diff(parity)).sum() == 1  # one module, then the other
    same = (parity[:, None] == parity) & ~np.eye(40, dtype=bool)
    for panel, level in ((train, 0.85), (real, 0.85), (none, 0.0)):
        assert panel[np.ix_(strong, strong)][same].mean() == pytest.approx(level, abs=0.08)
    values, labels = cohort(100, 1)
    expected = within_correlation(values, labels)[int(names[0][1:]), int(names[1][1:])]
    assert real[0, 1] == pytest.approx(expected, abs=0.006)


def test_the_worst_gene_is_the_shifted_one_and_distances_are_in_training_deviations():
    train, held_out, fake = (cohort(n, seed)[0] for n, seed in ((300, 0), (150, 1), (200, 2)))
    fake[:, 150] += 4 * train[:, 150].std()
    figure = marginal_densities(train, held_out, {"ddpm": fake}, SYMBOLS, "log2(TPM + 1)")
    titles = [note.text for note in figure.layout.annotations if "W" in note.text]
    assert len(titles) == 2 * ENDS
    symbol, _, distance = titles[-1].partition("  W ")
    assert symbol == "G150"
    assert float(distance) == pytest.approx(4, abs=0.3)
    distances = [float(title.partition("W ")[2]) for title in titles]
    assert distances == sorted(distances)
    assert any("log2(TPM + 1)" in str(axis.title.text) for axis in figure.select_xaxes())


def test_a_density_has_area_one_and_a_gene_that_never_varies_is_a_line():
    train, held_out, fake = (cohort(n, seed)[0] for n, seed in ((300, 0), (150, 1), (200, 2)))
    fake[:, 20] = 30.0
    figure = marginal_densities(train, held_out, {"ddpm": fake}, SYMBOLS, "log2")
    curve = next(trace for trace in figure.data if trace.name == "ddpm")
    assert np.trapezoid(curve.y, curve.x) == pytest.approx(1, abs=0.05)
    assert [shape.x0 for shape in figure.layout.shapes] == [30.0]


def test_one_tissue_has_no_fold_changes_and_the_figure_says_so():
    values, labels = cohort(20, 0)
    figure = fold_changes((values, labels), {"real": (values, np.full(len(labels), "lung"))}, SYMBOLS)
    assert figure.layout.title.text.startswith("No log-fold changes: differences need two groups")
    assert not figure.data


def test_fold_changes_lie_on_the_diagonal_for_real_donors_and_half_way_for_washed_out_ones():
    held_out, real = cohort(150, 0), cohort(150, 1)
    faint = real[0].copy()
    faint[real[1] == "lung"] -= 0.5 * (faint[real[1] == "lung"].mean(axis=0) - faint[real[1] == "liver"].mean(axis=0))
    figure = fold_changes(held_out, {"real": real, "faint": (faint, real[1])}, SYMBOLS)
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    slopes = [np.polyfit(trace.x, trace.y, 1)[0] for trace in dots]
    assert slopes == pytest.approx([1, 0.5], abs=0.08)
    assert len(dots[0].x) == GENES
