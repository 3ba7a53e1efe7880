"""Kedro settings; see https://docs.kedro.org for what else may stand here."""

from typing import Any

from kedro.config import OmegaConfigLoader

from transcriptome_diffusion.hooks import RunHooks


def choice(parameter: str, chosen: str, options: Any) -> Any:
    """``${choice:name, chosen, ${options}}``: the option that a parameter of the command line names.

    Raises:
        ValueError: naming the options, if it is none of them.
    """
    if chosen not in options:
        raise ValueError(f"`{parameter}` is {chosen!r}; expected one of {sorted(options)}.")
    return options[chosen]


CONFIG_LOADER_CLASS = OmegaConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "custom_resolvers": {"choice": choice},
    # an environment changes single keys of a parameter block; catalog entries are replaced whole
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
}
HOOKS = (RunHooks(),)
