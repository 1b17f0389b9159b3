from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from geopov._validation import sha256_of
from geopov.errors import FeatureError
from geopov.features.networks.card import NetworkCard


def card_for(folder, **changes):
    (folder / "network.pth").write_bytes(b"weights")
    parameters = {
        "backbone": "resnet18",
        "bands": ["red", "nir"],
        "stretch": "linear",
        "lo": [0, 0],
        "hi": [3000, 4000],
        "mean": [0.4, 0.5],
        "std": [0.2, 0.25],
        "input_px": None,
        "tile": {"size_px": 48, "resolution_m": 10.0, "context_px": 8},
        "task": "classification",
        "outputs": ["dark", "dim", "bright"],
        "class_edges": [0.5, 5],
        "unit": "nW/cm²/sr",
        "start": {"origin": "random", "source": "seed 0", "sha256": None},
        "data": {"train": 700},
        "training": {"epochs": 3, "auroc": None},
        "licence": "CC BY 4.0",
        "sha256": sha256_of(folder / "network.pth"),
    }
    return NetworkCard(**(parameters | changes))


def test_a_card_survives_the_disk(tmp_path):
    card = card_for(tmp_path)
    path = card.write(tmp_path)
    assert NetworkCard.read(tmp_path) == card
    assert (card.n_logits, card.context_px, card.bands, card.hi) == (3, 8, ("red", "nir"), (3000.0, 4000.0))
    first = path.read_bytes()
    assert json.loads(first)["unit"] == "nW/cm²/sr"
    NetworkCard.read(tmp_path).write(tmp_path)
    assert path.read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["card.json", "network.pth"]


def test_an_ordinal_head_has_one_logit_fewer(tmp_path):
    assert card_for(tmp_path, task="ordinal").n_logits == 2
    assert card_for(tmp_path, task="regression", outputs=["log_lights"], class_edges=None).n_logits == 1


def test_importing_cards_imports_no_torch():
    code = "import sys, geopov.features.networks.card; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": [0.4]}, r"mean is \[0.4\] for 2 bands"),
        ({"hi": [3000, 0]}, "lo below hi"),
        ({"stretch": "log"}, "above zero"),
        ({"std": [0, 1]}, "std is"),
        ({"bands": [0]}, "counted from 1"),
        ({"task": "ranking"}, "task is 'ranking'; expected one of classification"),
        ({"outputs": ["a", "a"]}, "different names"),
        ({"outputs": ["a"]}, "two classes or more"),
        ({"task": "regression"}, "expected one name"),
        ({"tile": {"size_px": 48}}, "resolution_m"),
        ({"class_edges": [float("inf")]}, "class_edges"),
        ({"training": {"auroc": float("nan")}}, "give None where there is no number"),
        ({"data": {"scenes": {1, 2}}}, "what JSON cannot"),
    ],
)
def test_wrong_cards(tmp_path, changes, message):
    with pytest.raises(FeatureError, match=message):
        card_for(tmp_path, **changes)


def test_other_weights_are_not_taken(tmp_path):
    card = card_for(tmp_path)
    card.write(tmp_path)
    (tmp_path / "network.pth").write_bytes(b"others")
    with pytest.raises(FeatureError, match=r"its card says .*damaged"):
        NetworkCard.read(tmp_path)
    with pytest.raises(FeatureError, match="its card says"):
        replace(card, unit="K").write(tmp_path)
    (tmp_path / "network.pth").unlink()
    with pytest.raises(FeatureError, match=r"holds no network\.pth"):
        NetworkCard.read(tmp_path)


def test_damaged_cards(tmp_path):
    with pytest.raises(FeatureError, match=r"no trained network in .*`geopov features pretrain`"):
        NetworkCard.read(tmp_path / "nowhere")
    card = card_for(tmp_path)
    path = card.write(tmp_path)
    good = asdict(card)
    for content, message in [
        ("{", "no valid JSON"),
        ("[]", "holds a list"),
        (json.dumps(good | {"colour": "red"}), "unknown keys colour"),
        (json.dumps({key: value for key, value in good.items() if key not in ("lo", "sha256")}), "lacks lo, sha256"),
        (json.dumps(good | {"std": "x"}), r"card\.json is wrong: std"),
        (json.dumps(good | {"outputs": 3}), r"card\.json is wrong: outputs"),
    ]:
        path.write_text(content)
        with pytest.raises(FeatureError, match=message):
            NetworkCard.read(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(FeatureError, match="no valid JSON"):
        NetworkCard.read(tmp_path)
