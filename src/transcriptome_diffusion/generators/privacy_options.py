"""Options of the privacy dial: what a generator may use of the user's cohort, and what it takes from a reference."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from transcriptome_diffusion.options import Options

Dial = Literal["none", "reference_axes", "dp"]


class PrivacyOptions(Options):
    """What is used of the user's cohort: all (``none``), class means and scales, or those with noise (``dp``)."""

    dial: Dial = Field(
        default="none",
        description="none: all, and a share of the reference's covariance; reference_axes: class means, per-gene "
        "scales and class factors alone; dp: (epsilon, delta)-differentially private class means and class factors",
    )
    own_shares: list[float] = Field(
        default=[0.0, 0.25, 0.5, 0.75, 1.0],
        min_length=1,
        description="for none: shares of the cohort's own covariance, of which held-out donors choose one",
    )
    epsilon: float = Field(default=8.0, gt=0, description="for dp: of all that is released of the cohort")
    delta: float = Field(default=1e-5, gt=0, lt=1, description="for dp: below one over the number of donors")
    axes: int = Field(default=256, ge=1, description="for dp: axes of the reference along which means are released")
    clip_quantile: float = Field(
        default=0.5, gt=0, lt=1, description="for dp: of the reference's profiles, whose length donors are clipped to"
    )
    factor_share: float = Field(
        default=0.1, gt=0, lt=1, description="for dp: of the squared signal that goes to the class factors"
    )
