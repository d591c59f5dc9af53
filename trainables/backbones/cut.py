"""A network cut in two before the stages that are trained: what never changes, and the rest."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.fx import Graph, Node, Tracer
from torch.fx.proxy import TraceError

from trainables.backbones.stages import last_stages, stages


class Outline(Tracer):
    """Follows a network without looking into its stages, whose modules stay what they are."""

    def __init__(self, leaves: Sequence[nn.Module]) -> None:
        super().__init__()
        self.leaves = {id(leaf) for leaf in leaves}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Stages are."""
        return id(m) in self.leaves or super().is_leaf_module(m, module_qualified_name)


def cut(network: nn.Module, unfreeze: int) -> tuple[Graph, Graph] | None:
    """What the network does before its last `unfreeze` stages, and from there on.

    To be carried out on the network by torch.fx.Interpreter: images go into the first graph, the
    activations that come out of it into the second. None where the network cannot be followed,
    nothing is frozen, or more than one tensor crosses the cut. The network is in evaluation mode.
    """
    try:
        nodes = list(Outline(stages(network)).trace(network).nodes)
    except (TraceError, TypeError, ValueError, RuntimeError):
        return None
    trained = {id(stage) for stage in last_stages(network, unfreeze)}
    names = {name for name, module in network.named_modules() if id(module) in trained}
    first = next((i for i, node in enumerate(nodes) if node.target in names), 0)
    crossing = nodes[first].all_input_nodes
    if len(crossing) != 1 or crossing[0].op == "placeholder":
        return None
    return copied(nodes, first, crossing[0])


def copied(nodes: Sequence[Node], first: int, value: Node) -> tuple[Graph, Graph] | None:
    """The nodes before number `first`, which give `value`, and the others, which begin with it."""
    below, above = Graph(), Graph()
    found: dict[Node, Node] = {}
    for node in nodes[:first]:
        found[node] = below.node_copy(node, found.__getitem__)
    below.output(found[value])
    found = {value: above.placeholder("activations")}
    try:
        for node in nodes[first:]:
            found[node] = above.node_copy(node, found.__getitem__)
    except KeyError:  # it needs what else was computed before
        return None
    return below, above
