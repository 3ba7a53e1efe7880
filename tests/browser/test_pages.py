"""The report and the study, opened in a browser: what a reader sees and can do, with and without scripts."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from reporting.test_report import HOSTILE, indicators, report_parts
from reporting.test_study_report import single, study_tables
from transcriptome_diffusion.reporting import study
from transcriptome_diffusion.reporting.figures import reconstruction_by_gene
from transcriptome_diffusion.reporting.guide import explain, label
from transcriptome_diffusion.reporting.report import COMPARED, build_report
from transcriptome_diffusion.reporting.scorecard import cells, power_row, summarise, wide

WIDTHS = (390, 1400)
#: of every visible row: the name, and the cells as the report's formatting function writes them
READ_ROWS = """table => [...table.querySelectorAll('tbody tr, tfoot tr')].filter(row => !row.hidden).map(
    row => [row.cells[0].firstChild.textContent, ...[...row.cells].slice(1).map(cell => [...cell.childNodes].map(
        node => node.textContent.trim()).join(' ').replace('≈ ', ''))])"""


@pytest.fixture(scope="module")
def scorecard():
    """Landmarks against both references, all genes against one, and a row that lacks a number."""
    single_values = indicators()
    lost = (single_values["generator"] == "class_kde") & (single_values["metric"] == "recall")
    single_values.loc[lost, ["value", "note"]] = np.nan, "only 12 profiles"
    genes = indicators().query("reference == 'test'").assign(space="transcriptome")
    genes["value"] /= 2
    genes["reconstructor"] = genes["generator"].map({"ddpm": "ridge"}).fillna("none")
    return summarise(pd.concat([single_values, genes], ignore_index=True)).assign(smallest_difference=0.25)


@pytest.fixture(scope="module")
def pages(scorecard, tmp_path_factory):
    """Both pages as files, and in ``tables`` without the library that draws figures, which takes seconds to start."""
    folder = tmp_path_factory.mktemp("pages")
    parts = report_parts()
    parts["tables"]["scorecard"] = scorecard
    genes = pd.DataFrame(
        {"r2": [0.1, 0.5, 0.9], "sd": [1.0, 2.0, 3.0], "mean": [1.0, 2.0, 3.0]}, index=["a", HOSTILE, "c"]
    )
    parts["figures"]["reconstruction_by_gene"] = reconstruction_by_gene({"ridge": genes})  # drawn on a canvas
    (folder / "report.html").write_text(build_report(**parts))
    tables = study_tables(summarise(single()))
    figures = {"samplers": [study.steps_figure(tables["samplers"])], "cost": [study.cost_figure(tables["cost"])]}
    (folder / "study.html").write_text(study.build_report(tables, figures, {"tissue": HOSTILE}))
    (folder / "tables").mkdir()
    for name in ("report.html", "study.html"):
        page = (folder / name).read_text()
        assert page.count(get_plotlyjs()) == 1
        (folder / "tables" / name).write_text(page.replace(get_plotlyjs(), "const Plotly = {newPlot() {}}"))
    return folder


@pytest.fixture
def visit(visit, pages):
    """Opens a page of the two."""
    return lambda name, width=1400, **options: visit((pages / name).as_uri(), width, **options)


def shown(page, selector):
    return page.locator(selector).evaluate(READ_ROWS)


def expected(scorecard, space, reference):
    texts = cells(scorecard, space, reference)
    rows = [[row, *texts.loc[row]] for row in texts.index]
    return [*rows, ["smallest difference", *power_row(scorecard, space, reference).values()]]


def table_of(space, reference):
    return f'.view [data-name="{space} {reference}"] table'


def whole(page):
    """Every figure is drawn, no name becomes markup, no width overflows."""
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # draws those out of view
    page.wait_for_function(
        "() => [...document.querySelectorAll('.figure')].every(part => part.querySelector('.trace, svg image, canvas'))"
    )
    assert page.locator(".figure").count() >= 2
    assert page.locator("body img").count() == 0
    assert HOSTILE in page.locator(".facts").inner_text()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_figure_of_the_study_is_drawn_no_name_becomes_markup_and_no_width_overflows(visit):
    whole(visit("study.html"))


def test_every_figure_of_the_report_is_drawn_and_its_paper_has_no_controls(visit, tmp_path):
    page = visit("report.html")
    whole(page)
    controls = ".controls, .tools, nav"
    assert page.locator(controls).first.is_visible()
    page.emulate_media(media="print")
    assert not any(part.is_visible() for part in page.locator(controls).all())
    assert page.locator(".view table:visible").count() == 1
    clipped = "parts => parts.filter(part => getComputedStyle(part).overflowX !== 'visible').length"
    assert page.locator(".scroll, .wide").evaluate_all(clipped) == 0
    page.pdf(path=tmp_path / "report.pdf", prefer_css_page_size=True)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_reader_chooses_the_comparison_and_reads_the_scorecards_own_cells(visit, scorecard):
    page = visit("tables/report.html")
    compared = [("landmarks", "test"), ("landmarks", "train"), ("transcriptome", "test")]
    choice = page.locator(".controls select")
    assert choice.locator("option").count() == len(compared)
    for index, (space, reference) in enumerate(compared):
        choice.select_option(index=index)
        assert page.locator(".view:visible").count() == 1
        assert (
            page.locator(".view:visible h3")
            .inner_text()
            .startswith(COMPARED[space, reference].format(panel="Landmark genes"))
        )
        rows = shown(page, ".view:visible table")
        assert rows == expected(scorecard, space, reference)
        assert len(rows) == 6
    assert [row[0] for row in rows if row[0].startswith("ddpm")] == ["ddpm + ridge"]


def test_a_click_or_a_key_on_a_head_sorts_with_missing_values_last(visit, scorecard):
    page = visit("tables/report.html")
    head = page.locator(f"{table_of('landmarks', 'test')} th", has_text="recall")
    values = wide(scorecard, "landmarks", "test")["recall"]
    assert values.isna().sum() == 1
    for act, state, order in (
        (head.locator("button").click, "ascending", values.sort_values().index),
        (lambda: page.keyboard.press("Enter"), "descending", values.sort_values(ascending=False).index),
        (lambda: page.keyboard.press("Space"), None, values.index),
    ):
        act()
        assert head.get_attribute("aria-sort") == state
        assert [row[0] for row in shown(page, table_of("landmarks", "test"))][:-1] == list(order)
    page.locator(f"{table_of('landmarks', 'test')} th button").first.click()
    assert [row[0] for row in shown(page, table_of("landmarks", "test"))][:-1] == sorted(values.index)


def test_hovering_or_focus_on_a_head_says_what_the_column_means(visit):
    page = visit("tables/report.html")
    button = page.locator(f"{table_of('landmarks', 'test')} th button", has_text="recall")
    tip = page.locator(".tip")
    for act in (button.hover, lambda: (page.mouse.move(0, 0), button.focus())):
        assert not tip.is_visible()
        act()
        assert explain("recall")[1].what in tip.inner_text()
        page.keyboard.press("Escape")


def test_the_download_has_the_shown_rows_in_the_shown_order(visit, scorecard):
    page = visit("tables/report.html")
    page.locator(".controls summary").click()
    page.get_by_label("memoriser").uncheck()
    assert page.locator(".controls summary").inner_text() == "Rows shown: 4 of 5"
    page.locator(f"{table_of('landmarks', 'test')} th button", has_text="precision").click()
    with page.expect_download() as waiting:
        page.locator(".view:visible .tools button").click()
    assert waiting.value.suggested_filename == "landmarks-test.csv"
    table = pd.read_csv(io.StringIO(Path(waiting.value.path()).read_text()), index_col=0)
    means = wide(scorecard, "landmarks", "test").drop(index="memoriser").sort_values("precision")
    sd = wide(scorecard, "landmarks", "test", "sd").loc[means.index]
    assert [*table.index] == [*means.index, "smallest difference"]
    assert table.index.name == "profiles of"
    for metric in means:
        np.testing.assert_allclose(table[label(metric)].iloc[:-1], means[metric], atol=5.1e-4)
        np.testing.assert_allclose(table[f"{label(metric)} s.d."].iloc[:-1], sd[metric], atol=5.1e-4)
    page.get_by_role("button", name="none").click()
    assert [row[0] for row in shown(page, table_of("landmarks", "test"))] == ["smallest difference"]


def test_a_table_of_the_study_downloads_with_the_published_values_beside_ours(visit):
    page = visit("tables/study.html")
    with page.expect_download() as waiting:
        page.locator("#paper_protocol ~ .tools button").first.click()
    table = pd.read_csv(io.StringIO(Path(waiting.value.path()).read_text()), index_col=0)
    ours = table.loc["ddim, max-abs, 1000 steps", ["recall", "recall s.d.", "recall in the paper"]].tolist()
    assert ours == [0.5, 0.25, 0.892]
    page.locator(".controls summary").click()
    page.get_by_label("ddim", exact=True).uncheck()
    names = page.locator(".rows tbody tr:visible td:first-child").all_inner_texts()
    assert "real" in names
    assert not any(name.startswith("ddim") for name in names)


def test_without_scripts_every_table_is_shown_and_no_control_that_would_do_nothing(visit, scorecard):
    page = visit("tables/report.html", java_script_enabled=False)
    assert page.locator(".view table:visible").count() == 3
    assert page.locator("button:visible, select:visible, input:visible").count() == 0
    assert (
        page.locator(f"{table_of('landmarks', 'test')} th[title]").count()
        == wide(scorecard, "landmarks", "test").shape[1]
    )
