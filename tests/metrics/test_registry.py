import inspect
import math
import re
import subprocess
import sys

import pytest

from transcriptome_diffusion.metrics.registry import (
    ATTACKS,
    FAULTS,
    METRICS,
    RATES,
    REFERENCES,
    SPACES,
    require_registered,
    select,
)

SOURCE = r"\(\d{4}\), (doi:10\.\d+/\S+|arXiv:\d+\.\d+|JMLR \d+:\d+)$"


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_every_entry_is_complete_and_names_a_function(metric):
    assert METRICS[metric.name] is metric
    assert inspect.getdoc(metric.function)
    assert all(text.endswith(".") for text in metric.entry)
    assert metric.group
    assert set(metric.spaces) <= set(SPACES)
    assert set(metric.references) <= set(REFERENCES)
    assert metric.low < metric.high
    for value in (metric.null, metric.ideal):
        assert math.isnan(value) or metric.low <= value <= metric.high
    assert not metric.citation or re.search(
        r"\(\d{4}\).*(doi:10\.\d+/\S+|arXiv:\d+\.\d+|JMLR \d+:\d+)$", metric.citation
    )
    assert {fault[:-1] for fault in metric.moved_by.split()} <= set(FAULTS)
    assert {fault[-1] for fault in metric.moved_by.split()} <= {"+", "-"}


def test_labels_tell_metrics_apart():
    labels = [metric.label for metric in METRICS.values()]
    assert len(set(labels)) == len(labels)


def test_the_first_tables_and_the_objective_are_made_of_marked_metrics():
    assert select(headline="test")[:3] == ("precision", "recall", "density")
    assert "copying" in select(headline="test")
    assert "f1" in select(headline="train")
    assert "f1" not in select(likeness=True)
    assert select("biology.coexpression:preservation") == (
        "module_density",
        "module_connectivity",
        "module_correlation",
    )


def test_every_attack_has_its_three_numbers_and_their_nulls():
    for attack in ATTACKS:
        for rate, null in RATES.items():
            assert METRICS[f"{attack}_{rate}"].null == null


def test_an_unknown_metric_is_named():
    with pytest.raises(ValueError, match=r"\['mine'\] have no entry"):
        require_registered(["spread", "mine", "mine"])


def test_reading_the_table_imports_no_heavy_library():
    script = "import sys, transcriptome_diffusion.metrics.registry; print({'torch', 'sklearn'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert found.strip() == "set()"
