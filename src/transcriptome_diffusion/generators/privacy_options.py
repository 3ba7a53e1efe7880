"""Options of the privacy dial: what a generator may use of the user's cohort, and what it takes from a reference."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from transcriptome_diffusion.options import Options

Dial = Literal["none", "reference_axes", "dp"]


class DPSGDOptions(Options):
    """Fine-tuning of a network on the user's cohort by DP-SGD, for ``dp``; all of it is public."""

    share: float = Field(
        default=0.0, ge=0, lt=1, description="of the squared signal that goes to it; 0: the network sees no donor"
    )
    trained: Literal["labels", "all"] = Field(
        default="all", description="what changes: the embeddings of the classes, or all weights"
    )
    steps: int = Field(default=100, ge=1)
    sampling_rate: float = Field(default=0.25, gt=0, le=1, description="probability of a donor to be in a batch")
    draws: int = Field(default=2, ge=1, description="of a profile, a time and noise, for a donor's gradient in a step")
    learning_rate: float = Field(default=3e-3, gt=0, lt=1)
    clip_quantile: float = Field(
        default=0.5, gt=0, le=1, description="of the reference's donors, whose gradients' length others are clipped to"
    )


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
    axes: int = Field(
        default=1000,
        ge=1,
        description="for dp: axes of the reference along which means are released; with at least the number of genes "
        "all directions",
    )
    off_axes: float = Field(
        default=0.75, ge=0, le=1, description="for reference_axes: share kept of class means off the reference's axes"
    )
    clip_quantile: float = Field(
        default=0.1, gt=0, lt=1, description="for dp: of the reference's profiles, whose length donors are clipped to"
    )
    factor_share: float = Field(
        default=0.05, gt=0, lt=1, description="for dp: of the squared signal that goes to the class factors"
    )
    dp_sgd: DPSGDOptions = Field(default=DPSGDOptions(), description="for dp and networks")


class PrivateModelOptions(PrivacyOptions):
    """The dial, and which generator the ``privacy`` pipeline fits with it."""

    generator: Literal["class_gaussian", "vae", "wgan_gp", "flow_matching", "ddpm", "ddim"] = Field(
        default="class_gaussian",
        description="what the privacy pipeline fits: the class Gaussian, or a network with its own block of parameters",
    )
