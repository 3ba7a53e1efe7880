"""What the sample ids of TCGA, TARGET and GTEx say about a sample.

TCGA: ``TCGA-TT-PPPP-SSV-PPA-LLLL-CC``; the patient is the first 12 characters, the sample the first 15, of which the
last two are its type (https://gdc.cancer.gov/resources-tcga-users/tcga-code-tables/sample-type-codes).
"""

from __future__ import annotations

import re

_DONOR = re.compile(r"TCGA-\w{2}-\w{4}|GTEX-\w+|K-562|TARGET-\d{2}-\w+")
_CODE = re.compile(r"(?:TCGA-\w{2}-\w{4}|TARGET-\d{2}-\w+)-(\d{2})")


def donor(sample: str) -> str | None:
    """The patient or donor of a TCGA, TARGET or GTEx sample id; None if it is none of these."""
    found = _DONOR.match(sample)
    return found[0] if found else None


def sample_type(sample: str) -> str | None:
    """``tumor`` (codes 01 to 09), ``normal`` (10 to 19), or None for controls and cell lines."""
    found = _CODE.match(sample)
    return {0: "tumor", 1: "normal"}.get(int(found[1]) // 10) if found else None


def preferred_aliquots(samples: list[str]) -> list[int]:
    """Positions of one aliquot per TCGA sample (first 15 characters), in the order of the list.

    The rule is that of the Broad's Firehose: analyte H before R before T, then the barcode that sorts last, which is
    the latest plate. Where barcodes were cut to the sample, the first column is taken.
    """
    chosen: dict[str, int] = {}
    for place, sample in enumerate(samples):
        best = chosen.setdefault(sample[:15], place)
        if _rank(sample) > _rank(samples[best]):
            chosen[sample[:15]] = place
    return sorted(chosen.values())


def _rank(sample: str) -> tuple[int, str]:
    return "TRH".find(sample[19:20] or "-"), sample
