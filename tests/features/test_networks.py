from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor

from geopov.errors import FeatureError, OfflineError
from geopov.features import build, extract
from geopov.features.networks.backbones import load_backbone, read_state
from geopov.features.networks.engines import PooledNetwork, middle_weights, torch_threads

# One network of each family; the node is where torchvision's own names put the final map.
FAMILIES = {
    "resnet18": ("layer4", 512),
    "densenet121": ("relu", 1024),
    "squeezenet1_1": ("features", 512),
    "efficientnet_b0": ("features", 1280),
    "mobilenet_v3_small": ("features", 576),
    "convnext_tiny": ("features", 768),
    "shufflenet_v2_x1_0": ("conv5", 1024),
}


def random_network(name="squeezenet1_1", **parameters):
    return build({"name": name, "weights": None, "engine": "eager", "threads": 1} | parameters)


def batch(rng, n=5, size=64, bands=3):
    return rng.integers(0, 256, (n, bands, size, size), dtype=np.uint8), np.ones((n, size, size), dtype=bool)


def photograph(name, size=224):
    image = getattr(skimage.data, name)()
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    tile = image[top : top + side, left : left + side].transpose(2, 0, 1)[None]
    return tile, np.ones((1, side, side), dtype=bool)


@pytest.fixture(scope="module")
def lite0(lite0_weights):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GEOPOV_EFFICIENTNET_LITE0", str(lite0_weights))
        return build({"name": "efficientnet_lite0", "input_px": 224, "engine": "eager", "threads": 2})


@pytest.mark.parametrize("name", FAMILIES)
def test_the_cut_is_before_pooling_and_head(name):
    node, n_features = FAMILIES[name]
    backbone = load_backbone(name, weights=None, seed=3)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        whole = torchvision.models.get_model(name, weights=None).eval()
    with torch.inference_mode():
        expected = create_feature_extractor(whole, {node: "map"})(images)["map"].mean((2, 3))
        found = PooledNetwork(backbone.trunk, share=1)(images)
    assert found.shape == (2, n_features) == (2, backbone.n_features)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("name", "classes"), [("coffee", {967}), ("chelsea", set(range(281, 286)))])
def test_photographs_are_recognised(lite0, lite0_weights, name, classes):
    # The head that the extractor cuts off, put on again: only right features give right classes.
    state = read_state(lite0_weights)
    scores = lite0(*photograph(name)) @ state["_fc.weight"].numpy().T + state["_fc.bias"].numpy()
    assert int(scores.argmax()) in classes


def test_golden_values(lite0):
    found = lite0(*photograph("coffee"))
    assert found.shape == (1, 1280)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, :6], GOLDEN, atol=2e-3)


GOLDEN = [0.11769502, 0.74885124, 1.2523038, 0.0, 0.01373032, 0.0]


@pytest.mark.parametrize("engine", ["fused", "onnxruntime"])
def test_engines_agree(lite0, lite0_weights, engine, rng):
    data, valid = photograph("chelsea")
    noise = rng.integers(0, 256, (7, 3, *data.shape[2:]), dtype=np.uint8)
    data, valid = np.concatenate([data, noise]), np.repeat(valid, 8, axis=0)
    small = {"name": "efficientnet_lite0", "weights": str(lite0_weights), "input_px": 64, "threads": 2}
    expected = build(small | {"engine": "eager"})(data, valid)
    other = build(small | {"engine": engine})
    found = other(data, valid)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.array_equal(other(data, valid), found)


def test_engines_agree_on_plain_batch_norms(rng):
    data, valid = batch(rng, n=3, size=48)
    expected = random_network("resnet18")(data, valid)
    found = random_network("resnet18", engine="fused")(data, valid)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_folding_is_refused_where_it_would_be_wrong():
    from geopov.features.networks.engines import fuse_batch_norm

    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)
            self.norm.running_mean += 1

        def forward(self, images):
            found = self.conv(images)
            return (self.norm(found) + found).mean((2, 3))

    with pytest.raises(FeatureError, match="engine='eager'"):
        fuse_batch_norm(Twice().eval(), torch.rand(2, 3, 8, 8))


def test_a_tile_does_not_depend_on_its_company(rng):
    data, valid = batch(rng, n=70, size=32)
    extractor = random_network("resnet18")
    together = extractor(data, valid)
    order = rng.permutation(70)
    assert np.array_equal(extractor(data[order], valid[order]), together[order])
    assert np.array_equal(extractor(data[:3], valid[:3]), together[:3])


def test_seed_decides_a_random_start(rng):
    data, valid = batch(rng)
    before = torch.random.get_rng_state()
    one, again, other = (random_network(seed=seed)(data, valid) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert random_network(seed=1).spec()["seed"] == 1


def test_own_weights_file(tmp_path, rng):
    data, valid = batch(rng)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = torchvision.models.resnet18(weights=None, num_classes=3)
    torch.save(network.state_dict(), tmp_path / "lights.pth")
    extractor = random_network("resnet18", weights=str(tmp_path / "lights.pth"))
    with torch.inference_mode():
        planes = (torch.from_numpy(data) / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
            [0.229, 0.224, 0.225]
        )[:, None, None]
        expected = create_feature_extractor(network.eval(), {"avgpool": "x"})(planes)["x"].flatten(1).numpy()
    np.testing.assert_allclose(extractor(data, valid), expected, rtol=1e-4, atol=1e-5)
    card = extractor.provenance()["weights"]
    assert (card["origin"], card["source"]) == ("file", "lights.pth")
    assert build(extractor.spec()).spec() == extractor.spec()
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "lights.pth")
    with pytest.raises(FeatureError, match="the features were made with"):
        build(extractor.spec())


class Surprise:
    def __reduce__(self):
        return (Path.touch, (Path("surprise"),))


def test_weights_files_that_are_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FeatureError, match=r"there are no weights none\.pth"):
        random_network(weights="none.pth")
    torch.save({"a": Surprise()}, "evil.pth")
    with pytest.raises(FeatureError, match="does not load as plain weights"):
        random_network(weights="evil.pth")
    assert not Path("surprise").exists()
    Path("text.pth").write_text("hello")
    with pytest.raises(FeatureError, match="does not load as plain weights"):
        random_network(weights="text.pth")
    torch.save({"epoch": 3}, "run.pth")
    with pytest.raises(FeatureError, match="no state dict of tensors"):
        random_network(weights="run.pth")
    torch.save(torchvision.models.resnet34(weights=None).state_dict(), "resnet34.pth")
    with pytest.raises(FeatureError, match=r"another network; unexpected: layer1\.2\.conv1\.weight"):
        random_network("resnet18", weights="resnet34.pth")
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), "resnet18.pth")
    with pytest.raises(FeatureError, match=r"another network; missing: .*of another shape: .*conv"):
        random_network("resnet50", weights="resnet18.pth")
    with pytest.raises(FeatureError, match=r"another network; missing: conv_stem\.weight"):
        random_network("efficientnet_lite0", weights="resnet18.pth")


def test_weights_that_cannot_be_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("GEOPOV_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"resnet18-.*\.pth is not there. Download https.*weights='path/to/resnet18"):
        build("resnet18")
    monkeypatch.delenv("GEOPOV_OFFLINE")

    def refuse(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(FeatureError, match=r"cannot be downloaded \(no route to host\)\. Download https"):
        build("resnet18")


def test_middle_of_the_map():
    assert middle_weights(4, 0.5).tolist() == [0, 0.5, 0.5, 0]
    np.testing.assert_allclose(middle_weights(3, 0.5), [0.25 / 1.5, 1 / 1.5, 0.25 / 1.5])
    assert middle_weights(1, 0.2).tolist() == [1]


def test_context_is_seen_and_not_averaged(rng):
    # Eight strides of 32 px: the middle half of the map is the tile, to the cell.
    data, valid = batch(rng, n=2, size=256)
    extractor = random_network("resnet18", context_px=64)
    found = extractor(data, valid)
    backbone = load_backbone("resnet18", weights=None, seed=0)
    planes = extractor.preprocessing.planes(data, valid, band_names=None, mean=backbone.mean, std=backbone.std)
    with torch.inference_mode():
        expected = backbone.trunk(torch.from_numpy(planes))[:, :, 2:6, 2:6].mean((2, 3)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    cropped = random_network("resnet18")(data[:, :, 64:-64, 64:-64], valid[:, 64:-64, 64:-64])
    assert not np.allclose(found, cropped, rtol=0.01)


def test_context_is_resized_in_proportion(rng):
    data, valid = batch(rng, n=2, size=48)
    extractor = random_network("resnet18", context_px=12, input_px=64)
    assert extractor(data, valid).shape == (2, 512)
    assert list(extractor._engines) == [(128, 0.5)]


def test_bands_limits_and_validity(fake_tiles, rng):
    data = rng.gamma(0.5, 3, (4, 1, 24, 24)).astype(np.float32)
    valid = np.ones((4, 24, 24), dtype=bool)
    valid[1] = False
    tiles = fake_tiles(data, valid, band_names=["radiance"])
    parameters = {"bands": ["radiance"] * 3, "stretch": "log", "lo": 0.1, "hi": 100, "input_px": 48}
    array = extract(random_network(**parameters), tiles)
    assert array["cluster_id"].to_numpy().tolist() == ["c0", "c2", "c3"]
    assert not np.isnan(array.to_numpy()).any()
    provenance = json.loads(array.attrs["provenance"])
    assert provenance["extractor"]["bands"] == ["radiance"] * 3
    assert provenance["weights"] == {"origin": "random", "source": "seed 0", "sha256": None}
    with pytest.raises(FeatureError, match=r"tiles are float32.*Give lo and hi"):
        extract(random_network(bands=[1, 1, 1]), tiles)
    with pytest.raises(FeatureError, match="no band 'nir'"):
        extract(random_network(bands=["nir"] * 3, lo=0, hi=1), tiles)


def test_values_under_invalid_pixels_do_not_matter(rng):
    data, valid = batch(rng, n=2)
    valid[:, :20] = False
    extractor = random_network()
    expected = extractor(data, valid)
    data[:, :, :20] = 255
    assert np.array_equal(extractor(data, valid), expected)


def test_threads_are_given_back(rng):
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    random_network(threads=before + 1)(*batch(rng, n=1))
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"engine": "tensorrt"}, "no engine 'tensorrt'; expected one of auto"),
        ({"threads": 0}, "threads is 0"),
        ({"half": True}, "half precision needs a GPU"),
        ({"context_px": 1.5}, "context_px is 1.5"),
    ],
)
def test_wrong_parameters(parameters, message):
    with pytest.raises(FeatureError, match=message):
        random_network(**parameters)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu():
    with pytest.raises(FeatureError, match="sees no GPU"):
        random_network(engine="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_gpu_agrees(rng):
    data, valid = batch(rng, n=20, size=64)
    expected = random_network("resnet18")(data, valid)
    found = random_network("resnet18", engine="cuda")(data, valid)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_an_image_too_small(rng):
    with pytest.raises(FeatureError, match=r"cannot take images of 4 px.*larger input_px"):
        random_network()(*batch(rng, n=1, size=4))
