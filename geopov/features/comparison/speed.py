"""How fast a trained network runs forward, and how many parameters it has.

Imports torch; reached only from inside :func:`geopov.features.comparison.bake_off.compare`.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch

from geopov.features.networks.engines import (
    EngineName,
    PooledNetwork,
    choose_engine,
    forward_all,
    make_engine,
    micro_batch,
)
from geopov.features.networks.trained import load_trained

__all__ = ["measure"]

# The median is taken over at least so many rounds and seconds.
_ROUNDS, _SECONDS = 3, 1.0


def measure(folder: Path, *, engine: EngineName, threads: int | None) -> dict[str, Any]:
    """What a trained network costs.

    Parameters
    ----------
    folder : path
        Of the trained network.
    engine : str
        As in :func:`geopov.features.build`.
    threads : int, optional
        Of one forward pass on a CPU; default: PyTorch's number.

    Returns
    -------
    dict
        ``n_parameters`` of trunk and head; ``images_per_s``, forward passes alone on images that are ready, in the
        batches and by that engine; ``side_px`` of those images; ``engine``.
    """
    parts = load_trained(folder)
    tile, input_px = parts.card.tile, parts.card.input_px
    total_px = int(tile["size_px"] + 2 * tile["context_px"])
    side = total_px if input_px is None else round(input_px * total_px / tile["size_px"])
    engine = choose_engine(engine)
    generator = torch.Generator().manual_seed(0)
    batch = micro_batch(side, side, engine=engine)
    images = torch.rand(batch, len(parts.card.bands), side, side, generator=generator)
    network = PooledNetwork(parts.backbone.trunk, share=tile["size_px"] / total_px).eval()
    forward = make_engine(engine, network, images, half=False)
    # As many passes as are computed side by side, twice.
    n = 2 * (threads or torch.get_num_threads())

    def seconds() -> float:
        start = time.perf_counter()
        for _ in forward_all(forward, lambda _: images, n, engine=engine, threads=threads):
            pass
        return time.perf_counter() - start

    seconds()
    taken: list[float] = []
    while len(taken) < _ROUNDS or sum(taken) < _SECONDS:
        taken.append(seconds())
    modules = (parts.backbone.trunk, parts.head)
    return {
        "n_parameters": sum(parameter.numel() for module in modules for parameter in module.parameters()),
        "images_per_s": float(f"{n * batch / statistics.median(taken):.4g}"),
        "side_px": side,
        "engine": engine,
    }
