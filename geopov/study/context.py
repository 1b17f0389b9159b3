"""How much context a study's tiles get, where its file leaves that to the network's reach."""

from __future__ import annotations

from typing import Any

from geopov import features
from geopov.errors import GeopovError, StudyError
from geopov.study.config import NETWORK_FOLDER, Study

__all__ = ["with_context"]

# What of a network's training says how it will see tiles.
_SEEN = ("bands", "stretch", "lo", "hi", "input_px")


def with_context(study: Study) -> Study:
    """The study with a number where ``tiles.context_px`` is "auto" or "exact": the most that one of its networks needs.

    Raises
    ------
    StudyError
        If an extractor cannot be built, or looks at the whole image however large it is.
    """
    wanted = study.tiles.context_px
    if isinstance(wanted, int):
        return study
    needed = 0
    for spec in study.features:
        try:
            choice = features.choose_context(
                _untrained(study, spec), size_px=study.tiles.size_px, exact=wanted == "exact"
            )
        except GeopovError as error:
            raise StudyError(
                f"tiles.context_px is {wanted!r}, and what the extractor {spec.get('name')!r} needs cannot be told: "
                f"{error} Give a number of pixels."
            ) from error
        needed = max(needed, choice.context_px)
    return study.model_copy(update={"tiles": study.tiles.model_copy(update={"context_px": needed})})


def _untrained(study: Study, spec: dict[str, Any]) -> dict[str, Any]:
    """The extractor, or for a network that the study has yet to train, the one it starts from."""
    start = study.pretrain
    if start is None or spec.get("name") != "pretrained" or spec.get("weights", NETWORK_FOLDER) != NETWORK_FOLDER:
        return spec
    seen = {key: start.training[key] for key in _SEEN if key in start.training}
    weights = {"weights": start.weights} if start.weights else {"weights": None, "seed": start.seed}
    return {"name": start.backbone, **weights, **seen}
