"""What TCGA, TARGET and GTEx ids say."""

from __future__ import annotations

import pytest

from transcriptome_diffusion.cohorts.barcodes import donor, preferred_aliquots, sample_type


@pytest.mark.parametrize(
    ("sample", "kind"),
    [
        ("TCGA-OR-A5J1-01A-11R-A29S-07", "tumor"),
        ("TCGA-BH-A0AU-11A-11R-A12P-07", "normal"),
        ("TCGA-AB-2803-03A-01T-0734-13", "tumor"),
        ("TCGA-D3-A1QA-06A-11R-A18T-07", "tumor"),
        ("TCGA-OR-A5J1-10", "normal"),
        ("TCGA-AV-A3QF-20A-01R-A203-07", None),
        ("GTEX-1117F-0226-SM-5GZZ7", None),
    ],
)
def test_tumour_and_normal_are_told_by_the_type(sample, kind):
    assert sample_type(sample) == kind


def test_donors_of_every_study():
    assert donor("TCGA-OR-A5J1-01A-11R-A29S-07") == "TCGA-OR-A5J1"
    assert donor("GTEX-1117F-0226-SM-5GZZ7") == "GTEX-1117F"
    assert donor("TARGET-20-PAEIKD-09") == "TARGET-20-PAEIKD"
    assert donor("s1") is None


def test_of_several_aliquots_analyte_and_then_plate_decide():
    samples = [
        "TCGA-A6-2674-01A-02R-0821-07",
        "TCGA-A6-2674-01B-04R-A270-07",  # later by name: kept
        "TCGA-A6-2674-11A-02R-0821-07",
        "TCGA-AB-2803-03A-01R-0734-13",  # R before T, though T sorts last
        "TCGA-AB-2803-03A-01T-0734-13",
        "TCGA-21-1076-01",
        "TCGA-21-1076-01",
    ]
    assert preferred_aliquots(samples) == [1, 2, 3, 5]
