from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from geopov.errors import FeatureError
from geopov.features import build
from geopov.features.networks.backbones import load_backbone
from geopov.features.networks.card import NetworkCard
from geopov.features.networks.engines import PooledNetwork
from geopov.features.networks.inflate import inflated
from geopov.features.networks.state import load_state
from geopov.features.networks.trained import load_trained, save_weights

BANDS = ("blue", "green", "red", "nir")
# One of each family; all sixteen of Bressem et al. 2020 go the same ways.
FAMILIES = {
    "alexnet": 256,
    "densenet121": 1024,
    "resnet34": 512,
    "squeezenet1_0": 512,
    "timm/inception_v4": 1536,
    "efficientnet_lite0": 1280,
    "convnext_tiny": 768,
    "regnet_y_400mf": 440,
    "mobilenet_v3_small": 576,
    "googlenet": 1024,
}


def images(n_bands, *, n=2, size=64):
    return torch.rand(n, n_bands, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", FAMILIES)
def test_four_bands_go_in_and_gradients_come_back(name):
    backbone = load_backbone(name, weights=None, seed=0, n_bands=4)
    assert backbone.n_features == FAMILIES[name]
    assert len(backbone.mean) == len(backbone.std) == 4
    assert not any(parameter.requires_grad for parameter in backbone.trunk.parameters())
    network = nn.Sequential(PooledNetwork(backbone.trunk, share=1), nn.Linear(backbone.n_features, 3)).train()
    network.requires_grad_(True)
    found = network(images(4, size=96 if "inception" in name else 64))
    nn.functional.cross_entropy(found, torch.tensor([0, 2])).backward()
    gradients = {key: parameter.grad for key, parameter in network.named_parameters()}
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    first = next(gradient for gradient in gradients.values() if gradient.ndim == 4 and gradient.shape[1] == 4)
    assert (first.abs().amax((0, 2, 3)) > 0).all()


@given(st.integers(1, 12))
def test_bands_that_are_all_alike_give_what_they_gave(n_bands):
    filters = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(n_bands))
    found = inflated(filters, n_bands)
    assert found.shape == (5, n_bands, 3, 3)
    torch.testing.assert_close(found.sum(dim=1), filters.sum(dim=1))
    if n_bands >= 3:
        torch.testing.assert_close(found[:, :3], filters * 3 / n_bands)
        torch.testing.assert_close(
            found[:, 3:], filters.mean(1, keepdim=True).expand(-1, n_bands - 3, -1, -1) * 3 / n_bands
        )
    else:
        assert all(torch.equal(found[:, 0], found[:, band]) for band in range(n_bands))


def test_a_network_made_over_is_the_same_on_grey_images():
    grey = images(1)
    networks = {n: load_backbone("resnet18", weights=None, seed=4, n_bands=n).trunk for n in (1, 2, 3, 7)}
    with torch.inference_mode():
        expected = networks[3](grey.expand(-1, 3, -1, -1))
        for n_bands in (1, 2, 7):
            found = networks[n_bands](grey.expand(-1, n_bands, -1, -1))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_any_number_of_bands_in_an_extractor(rng):
    data, valid = rng.integers(0, 3000, (3, 4, 32, 32), dtype=np.uint16), np.ones((3, 32, 32), dtype=bool)
    spec = {
        "name": "squeezenet1_1",
        "weights": None,
        "engine": "eager",
        "threads": 1,
        "lo": 0,
        "hi": [3e3, 3e3, 3e3, 4e3],
    }
    extractor = build(spec | {"bands": list(BANDS)}).for_bands(BANDS)
    backbone = load_backbone("squeezenet1_1", weights=None, seed=0, n_bands=4)
    unit = torch.from_numpy(data / np.array([3e3, 3e3, 3e3, 4e3])[:, None, None]).float()
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.mean, backbone.std))
    with torch.inference_mode():
        expected = backbone.trunk((unit.clamp(max=1) - mean) / std).mean((2, 3)).numpy()
    np.testing.assert_allclose(extractor(data, valid), expected, rtol=1e-3, atol=1e-5)
    assert backbone.mean[3] == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    assert build(extractor.spec()).spec() == extractor.spec()


def test_weights_for_four_bands_are_taken_as_they_are(tmp_path):
    network = torchvision.models.resnet18(weights=None)
    network.conv1 = nn.Conv2d(4, 64, 7, stride=2, padding=3, bias=False)
    torch.save(network.state_dict(), tmp_path / "four.pth")
    trunk = load_backbone("resnet18", weights=tmp_path / "four.pth", seed=0, n_bands=4).trunk
    assert torch.equal(trunk.state_dict()["conv1.weight"], network.conv1.weight)
    with pytest.raises(FeatureError, match=r"conv1\.weight \(64, 4, 7, 7\) not \(64, 3, 7, 7\)"):
        load_backbone("resnet18", weights=tmp_path / "four.pth", seed=0)


def test_files_as_torchvision_published_them():
    """DenseNet's oldest files say norm.1 where the network now says norm1, and count no batches."""
    one, two = (torchvision.models.DenseNet(4, (1, 1, 1, 1), 8, num_classes=2) for _ in range(2))
    old = {
        re.sub(r"(denselayer1\.\w+)([12])\.", r"\1.\2.", key): value
        for key, value in one.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    load_state(two, old, head=("classifier",), source="densenet.pth")
    assert torch.equal(two.features(images(3)), one.features(images(3)))


def test_timm_weights_from_a_file_or_the_cache(tmp_path, monkeypatch):
    network = timm.create_model("mobilenetv3_small_050", pretrained=False)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "model.safetensors")
    backbone = load_backbone("timm/mobilenetv3_small_050", weights=tmp_path / "model.safetensors", seed=9)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.trunk(images(3)), network.eval().forward_features(images(3)))
    assert (backbone.weights.origin, backbone.weights.source) == ("file", "model.safetensors")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(FeatureError, match=r"not in timm's cache.*huggingface\.co/timm/resnet18.*give weights="):
        load_backbone("timm/resnet18", weights="imagenet", seed=0)
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    url = timm.get_pretrained_cfg("resnet18").url
    network = timm.create_model("resnet18", pretrained=False)
    torch.save(network.state_dict(), tmp_path / "hub/checkpoints" / url.rpartition("/")[2])
    backbone = load_backbone("timm/resnet18", weights="imagenet", seed=0, n_bands=1)
    assert (backbone.weights.origin, backbone.weights.source) == ("imagenet", url)
    torch.testing.assert_close(
        backbone.trunk.state_dict()["network.conv1.weight"], network.conv1.weight.detach().sum(1, keepdim=True)
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm/vit_tiny_patch16_224", "gives no final map that grows with the image"),
        ("timm/resnet81", "timm has no network 'resnet81'; did you mean 'timm/resnet"),
        ("inception_v4", "no extractor 'inception_v4'; did you mean 'inception_v3'"),
    ],
)
def test_networks_that_are_none(name, message):
    with pytest.raises(FeatureError, match=message):
        load_backbone(name, weights=None, seed=0)


def test_wrong_numbers_of_bands():
    with pytest.raises(FeatureError, match="n_bands is 0"):
        load_backbone("resnet18", weights=None, seed=0, n_bands=0)


def train(folder, *, outputs=("dark", "dim", "bright"), **changes):
    """A network that was never trained, written as training would."""
    folder.mkdir(exist_ok=True)
    backbone = load_backbone("squeezenet1_1", weights=None, seed=5, n_bands=4)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        head = nn.Linear(backbone.n_features, len(outputs))
    parameters = {
        "backbone": "squeezenet1_1",
        "bands": BANDS,
        "stretch": "linear",
        "lo": (0,) * 4,
        "hi": (3000,) * 4,
        "mean": (0.1, 0.2, 0.3, 0.4),
        "std": (0.5,) * 4,
        "input_px": 48,
        "tile": {"size_px": 32, "resolution_m": 10.0, "context_px": 0},
        "task": "classification",
        "outputs": outputs,
        "unit": "nW/cm²/sr",
        "sha256": save_weights(folder, backbone.trunk, head),
    }
    NetworkCard(**(parameters | changes)).write(folder)
    return backbone, head


def test_a_trained_folder_is_an_extractor(tmp_path, rng):
    folder = tmp_path / "lights"
    backbone, head = train(folder)
    data = rng.integers(0, 4000, (4, 5, 32, 32), dtype=np.uint16)
    extractor = build({"name": "pretrained", "weights": folder, "engine": "eager", "threads": 1})
    bound = extractor.for_bands(["swir", "nir", "blue", "green", "red"])
    found = bound(data, np.ones((4, 32, 32), dtype=bool))
    unit = torch.from_numpy(data[:, [2, 3, 4, 1]].astype(np.float32)).clamp(max=3000) / 3000
    planes = (unit - torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None]) / 0.5
    planes = nn.functional.interpolate(planes, size=(48, 48), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        expected = backbone.trunk(planes).mean((2, 3)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(load_trained(folder).head.weight, head.weight)
    spec = extractor.spec()
    assert spec["weights_sha256"] == extractor.trained.card.sha256
    assert build(spec).spec() == spec
    card = extractor.provenance()["weights"]
    assert (card["origin"], card["source"], card["sha256"]) == ("trained", "lights", spec["weights_sha256"])
    with pytest.raises(FeatureError, match="no band 'blue'"):
        extractor.for_bands(["red"])
    with pytest.raises(FeatureError, match="the features were made with"):
        build(spec | {"weights_sha256": "0" * 64})


def test_a_repeat_writes_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        train(tmp_path / name)
    assert (tmp_path / "one/network.pth").read_bytes() == (tmp_path / "two/network.pth").read_bytes()
    assert (tmp_path / "one/card.json").read_bytes() == (tmp_path / "two/card.json").read_bytes()


def test_context_is_the_cards_unless_given(tmp_path):
    train(tmp_path, tile={"size_px": 32, "resolution_m": 10.0, "context_px": 4})
    spec = {"name": "pretrained", "weights": str(tmp_path)}
    assert build(spec).context_px == 4
    assert build(spec | {"context_px": 9, "min_valid": 0.9}).spec()["context_px"] == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "resnet18"}, "the trunk is not that of the network its card names"),
        ({"outputs": ("dark", "bright")}, "the head is not that"),
        ({"backbone": "resnet81"}, "no extractor 'resnet81'"),
    ],
)
def test_cards_of_other_networks(tmp_path, changes, message):
    train(tmp_path)
    replace(NetworkCard.read(tmp_path), **changes).write(tmp_path)
    with pytest.raises(FeatureError, match=message):
        load_trained(tmp_path)


def test_what_the_card_decides_cannot_be_given(tmp_path):
    train(tmp_path)
    with pytest.raises(FeatureError, match="bands, input_px cannot be given with 'pretrained'"):
        build({"name": "pretrained", "weights": str(tmp_path), "input_px": 3, "bands": [1]})
    with pytest.raises(FeatureError, match="needs the folder of a trained network"):
        build("pretrained")
