"""A network before its weights, and the cut that leaves its final feature map.

Imports torch; reached only through :func:`geopov.features.build`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.fx
from torch import nn
from torch.fx.passes.shape_prop import ShapeProp

from geopov.features.networks.state import State
from geopov.features.networks.weights import WeightsCard

__all__ = ["Architecture", "cut_before"]


@dataclass(frozen=True)
class Architecture:
    """A network with random weights, and what its family knows about it.

    Attributes
    ----------
    network : Module
        The whole network, reading three bands.
    head : tuple of str
        What the names of the layers after the final map begin with; weights may lack them or have them otherwise.
    mean, std : tuple of float
        Of the images of its ImageNet weights, on the scale 0 to 1; for red, green and blue.
    cut : callable
        Of the network and a number of bands, once it reads so many: the trunk and the channels of its final map.
    published : callable
        The ImageNet weights and where they come from.
    translate : callable
        Names of tensors as others publish them, in the network's own words.
    """

    network: nn.Module
    head: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    cut: Callable[[nn.Module, int], tuple[nn.Module, int]]
    published: Callable[[], tuple[State, WeightsCard]]
    translate: Callable[[State], State] = dict


def cut_before(head: tuple[str, ...]) -> Callable[[nn.Module, int], tuple[nn.Module, int]]:
    """A cut after the last map (n, c, y, x) of more than one pixel that comes before pooling and ``head``.

    The network is traced in evaluation mode, so that stochastic depth, which is no module of its own, stays off when
    the trunk is trained; batch norms and dropout follow the trunk's mode.
    """

    def cut(network: nn.Module, n_bands: int) -> tuple[nn.Module, int]:
        graph_module = torch.fx.symbolic_trace(network)
        with torch.inference_mode():
            ShapeProp(graph_module).propagate(torch.zeros(1, n_bands, 224, 224))
        last = None
        for node in graph_module.graph.nodes:
            shape = getattr(node.meta.get("tensor_meta"), "shape", ())
            if len(shape) == 4 and min(shape[2:]) > 1 and not str(node.target).startswith(head):
                last = node
            elif node.op == "output":
                graph_module.graph.erase_node(node)
        assert last is not None  # transformers were refused by name
        with graph_module.graph.inserting_after(last):
            graph_module.graph.output(last)
        graph_module.graph.eliminate_dead_code()
        graph_module.delete_all_unused_submodules()
        graph_module.recompile()
        return graph_module, int(last.meta["tensor_meta"].shape[1])

    return cut
