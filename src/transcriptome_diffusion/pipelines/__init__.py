"""Six stages, wired through the catalog. Thin: they know Kedro, the science lives in the other rooms."""
