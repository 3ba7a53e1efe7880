"""Synthetic bulk RNA-seq profiles from diffusion models, measured against held-out donors."""

import warnings

__version__ = "0.1.0"

# Kedro 1.7 on omegaconf 2.4 repeats this on every command; the call is Kedro's, not ours.
warnings.filterwarnings("ignore", message=r"\s*register_new_resolver\(\) is deprecated")
