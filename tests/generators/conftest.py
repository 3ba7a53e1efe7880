"""A public cohort and one of the user's, for what learns from both."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def reference():
    from test_reference_prior import cohort

    return cohort({f"t{i}": 30 for i in range(6)}, 0, "r")


@pytest.fixture(scope="module")
def own():
    """Training and validation profiles of a few donors of two classes; one of them is the reference's as well."""
    from test_reference_prior import cohort

    return cohort({"t10": 8, "t1": 8}, 1, "d"), cohort({"t10": 4, "t1": 4}, 2, "v")
