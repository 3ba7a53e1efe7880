"""Kedro settings; see https://docs.kedro.org for what else may stand here."""

from kedro.config import OmegaConfigLoader

CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    # an environment changes single keys of a parameter block; catalog entries are replaced whole
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
