"""The data types that nodes name in their signatures, without importing them before a node runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame
    from plotly.graph_objects import Figure
else:
    # Kedro resolves a node's type hints to find its parameter models; one name it cannot resolve, and no
    # parameter of that node is validated. The libraries themselves are too slow to import for that.
    AnnData = DataFrame = Figure = Any

__all__ = ["AnnData", "DataFrame", "Figure"]
