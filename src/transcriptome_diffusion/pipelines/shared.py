"""What all pipelines share: data types for signatures that import nothing heavy, and boxes of nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from kedro.pipeline import Node, Pipeline

if TYPE_CHECKING:
    from anndata import AnnData
    from pandas import DataFrame
    from plotly.graph_objects import Figure
else:
    # Kedro resolves a node's type hints to find its parameter models; one name it cannot resolve, and no
    # parameter of that node is validated. The libraries themselves are too slow to import for that.
    AnnData = DataFrame = Figure = Any

__all__ = ["AnnData", "DataFrame", "Figure", "boxed"]


def boxed(
    nodes: Iterable[Node | Pipeline],
    namespace: str,
    internal: Iterable[str] = (),
    renamed: Mapping[str, str] | None = None,
) -> Pipeline:
    """Nodes in a namespace, which kedro-viz draws as one box.

    Args:
        internal: datasets that no other pipeline reads. They get the namespace's prefix, so that they show inside the
            box only; all others, and parameters, keep their names.
        renamed: by name within the box, inputs that have another name outside, such as one with a prefix of its own.
    """
    whole = Pipeline(list(nodes))
    names = whole.datasets()
    parameters = {name for name in names if name == "parameters" or name.startswith("params:")}
    bare = names - parameters - set(internal)
    return Pipeline(
        whole,
        namespace=namespace,
        inputs={name: (renamed or {}).get(name, name) for name in bare & whole.inputs()},
        outputs=bare & whole.all_outputs(),
        parameters=parameters - {"parameters"},
    )
