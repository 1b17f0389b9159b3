from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from geopov.cli.features.context import context
from geopov.errors import FeatureError
from geopov.features import build
from geopov.features.context import choose_context, seam_errors
from geopov.features.shared import block_features

SQUEEZENET = {"name": "squeezenet1_1", "weights": None, "engine": "eager"}


@pytest.fixture(scope="module")
def squeezenet():
    return build(SQUEEZENET)


def test_errors_fall_to_nothing_at_the_exact_context(squeezenet):
    errors = seam_errors(squeezenet, size_px=64)
    assert [error.context_px for error in errors] == [0, 16, 32, 48, 64, 96, 112]
    assert all(before.worst > after.worst for before, after in pairwise(errors))
    assert all(error.crop_error >= error.error for error in errors[:-2])
    assert errors[0].crop_error > 0.1
    assert errors[-1].worst < 1e-6


def test_an_error_is_what_crops_and_blocks_differ_by(squeezenet):
    """Against crops with the exact context, cut from an image of our own."""
    rng = np.random.default_rng(2)
    image = np.kron(rng.integers(0, 255, (3, 56, 56)), np.ones((8, 8))).astype(np.uint8)
    (found,) = seam_errors(squeezenet, size_px=64, contexts_px=[16], image=image)
    at = 144  # what lies left of it is more than can be seen, and a whole number of strides

    def features(context_px):
        cut = image[:, at - context_px :, at - context_px :][:, : 64 + 2 * context_px, : 64 + 2 * context_px]
        return squeezenet.with_context(context_px)(cut[None], np.ones((1, *cut.shape[1:]), dtype=bool))

    expected = np.linalg.norm(features(16) - features(112)) / np.linalg.norm(features(112))
    # Cells divide a crop of 96 px a little otherwise than one of 288 px, which is no part of the error found.
    assert found.crop_error == pytest.approx(expected, rel=0.02)


def test_the_choice_is_the_least_context_within_the_tolerance(squeezenet):
    choice = choose_context(squeezenet, size_px=64, tolerance=0.02)
    # One stride of 16 px is given up to alignment, the rest is seen.
    assert (choice.exact_px, choice.alignment_px) == (128, 16)
    seen_px = choice.context_px - 16
    assert seen_px % 16 == 0
    less, chosen = seam_errors(squeezenet, size_px=64, contexts_px=[seen_px - 16, seen_px])
    assert less.worst > 0.02 >= chosen.worst == choice.error
    exact = choose_context(SQUEEZENET, size_px=64, exact=True)
    assert (exact.context_px, exact.error) == (128, 0)
    assert choose_context(squeezenet, size_px=64, tolerance=0) == exact


def test_contexts_follow_the_resizing():
    # 40 px become 80, so that a stride of 16 is 8 px, and 112 px are 56.
    assert choose_context(SQUEEZENET | {"input_px": 80}, size_px=40, exact=True).exact_px == 56 + 8
    # 30 px become 80: a stride is 6 px.
    assert choose_context(SQUEEZENET | {"input_px": 80}, size_px=30, exact=True).exact_px % 6 == 0


def test_the_exact_context_is_exact_in_blocks(squeezenet):
    """Cut at a block's edge or not, a tile has the same features."""
    extractor = squeezenet.with_context(112).for_bands(["r", "g", "b"])
    data = np.random.default_rng(3).integers(0, 256, (3, 384, 384), dtype=np.uint8)
    valid = np.ones((384, 384), dtype=bool)
    inner = block_features(extractor, data, valid, left=np.array([144]), top=np.array([144]), size_px=64)
    outer = block_features(
        extractor, data[:, 32:320, 32:320], valid[32:320, 32:320], left=np.array([112]), top=np.array([112]), size_px=64
    )
    np.testing.assert_allclose(outer, inner, rtol=0, atol=1e-6 * np.abs(inner).max())


def test_what_is_no_network_needs_none():
    assert choose_context("band_mean", size_px=64).context_px == 0
    assert [error.worst for error in seam_errors("band_mean", size_px=64, contexts_px=[0, 8])] == [0, 0]
    both = choose_context(["band_mean", SQUEEZENET], size_px=64, exact=True)
    assert both.context_px == 128


def test_bad_questions():
    with pytest.raises(FeatureError, match="looks at the whole image"):
        choose_context({"name": "mobilenet_v3_small", "weights": None}, size_px=64)
    with pytest.raises(FeatureError, match="one at a time"):
        seam_errors(["band_mean", "band_statistics"], size_px=64)
    with pytest.raises(FeatureError, match="tolerance is -1"):
        choose_context("band_mean", size_px=64, tolerance=-1)
    with pytest.raises(FeatureError, match="expected at least"):
        seam_errors(SQUEEZENET, size_px=64, image=np.zeros((3, 100, 100), np.uint8))


def invoke(*arguments):
    app = typer.Typer()
    app.command()(context)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prints_errors_costs_and_advice():
    done = invoke("squeezenet1_1", "--weights", "random", "--size-px", 64, "--tolerance", 0.02)
    assert done.exit_code == 0, done.output
    rows = {int(line.split("│")[1]): line for line in done.output.splitlines() if line.startswith("│")}
    assert "25.0 x" in rows[128]
    assert "112 px" in rows[128]
    assert "exact" in rows[128]
    assert "1.0 x" in rows[0]
    assert re.search(r"at most 2%: context_px (64|80|96)$", done.output, re.MULTILINE)
    assert "Exact: context_px 128" in done.output
    assert "no network" in invoke("band_mean").output
    assert isinstance(invoke('["band_mean", "band_statistics"]').exception, FeatureError)
