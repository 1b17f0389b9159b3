"""``geopov features context``: how much context a network's tiles need."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from geopov.cli._common import console
from geopov.cli.features.extract import read_spec
from geopov.errors import FeatureError


def context(
    extractor: Annotated[
        str, typer.Argument(metavar="NAME", help="A network's name, or a specification as JSON, YAML or a file.")
    ],
    size_px: Annotated[int, typer.Option("--size-px", min=1, help="Side of a tile in pixels.")] = 224,
    input_px: Annotated[
        int | None, typer.Option("--input-px", min=1, help="Side tiles are resized to. Default: as they are.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Error of features that is put up with; 0.01 is 1%.")
    ] = 0.01,
    weights: Annotated[
        str | None,
        typer.Option("--weights", help="imagenet, random, a .pth file, or the folder of a pretrained network."),
    ] = None,
) -> None:
    """Show what a network's features lose with less context than it can see, and what context costs.

    Crops and blocks are laid such that the network's cells begin at the same pixels, which takes up to one stride of
    the context; what is left is seen on every side. Errors are shares of the features' length: at the corners of a
    block that is cut with this context, and of crops that see no more of it on any side, as clusters' do. Crops cost in
    proportion to their pixels; a map in blocks pays for context at the blocks' edges only.

    \b
    Example:
      geopov features context efficientnet_lite0 --size-px 224
      geopov features context resnet18 --weights random --size-px 100 --input-px 224
    """
    from geopov import features
    from geopov.features.context import choose_context, seam_errors

    built = features.build(_spec(extractor, input_px, weights))
    choice = choose_context(built, size_px=size_px, tolerance=tolerance)
    if choice.exact_px == 0:
        console.print(f"{extractor} is no network: it needs no context, and has no error at any.", highlight=False)
        return
    aligned_px = choice.alignment_px
    table = Table(
        "context_px", "seen on every side", "error at a block's corners", "error of a crop", "pixels of a crop"
    )
    for column in table.columns:
        column.justify = "right"
    errors = {error.context_px: error for error in seam_errors(built, size_px=size_px)}
    if choice.context_px - aligned_px not in errors:
        chosen = seam_errors(built, size_px=size_px, contexts_px=[choice.context_px - aligned_px])
        errors[choice.context_px - aligned_px] = chosen[0]
    for seen_px, error in sorted(errors.items()):
        context_px = seen_px + aligned_px if seen_px else 0
        cost = (size_px + 2 * context_px) ** 2 / size_px**2
        seams = ("exact", "exact") if context_px == choice.exact_px else map(_percent, (error.error, error.crop_error))
        table.add_row(str(context_px), f"{seen_px} px", *seams, f"{cost:.1f} x")
    console.print(table)
    console.print(f"Recommended for an error of at most {_percent(tolerance)}: context_px {choice.context_px}")
    console.print(f"Exact: context_px {choice.exact_px}")


def _spec(text: str, input_px: int | None, weights: str | None) -> dict[str, Any]:
    spec = read_spec(text)
    if isinstance(spec, list):
        raise FeatureError(f"{len(spec)} extractors are given; ask about one at a time.")
    asked: dict[str, Any] = {} if input_px is None else {"input_px": input_px}
    if weights is not None:
        asked["weights"] = None if weights == "random" else weights
    return ({"name": spec} if isinstance(spec, str) else dict(spec)) | asked


def _percent(share: float) -> str:
    return f"{share:.2g}" if share == 0 else f"{100 * share:.2g}%"
