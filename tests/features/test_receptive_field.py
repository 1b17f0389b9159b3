from __future__ import annotations

import pytest
import torch
from torch import nn

from geopov.errors import FeatureError
from geopov.features.networks.backbones import load_backbone
from geopov.features.networks.receptive_field import ReceptiveField, receptive_field


def closed_form(layers):
    """Size and stride of the field of convolutions (kernel, stride), and where it begins with half a kernel padded."""
    size, jump, begins = 1, 1, 0
    for kernel, stride in layers:
        size += (kernel - 1) * jump
        begins += (kernel - 1) // 2 * jump
        jump *= stride
    return begins, size - jump - begins, jump


@pytest.mark.parametrize(
    "layers",
    [
        [(1, 1)],
        [(3, 1), (3, 1)],
        [(7, 2), (3, 2), (3, 1)],
        [(3, 2), (3, 1), (3, 2), (5, 1), (3, 2)],
        [(1, 2), (1, 2)],
        [(3, 3), (5, 2)],
    ],
)
def test_plain_networks_have_closed_forms(layers):
    convolutions = [nn.Conv2d(2, 2, kernel, stride, kernel // 2) for kernel, stride in layers]
    trunk = nn.Sequential(*(part for conv in convolutions for part in (conv, nn.BatchNorm2d(2), nn.ReLU(inplace=True))))
    found = receptive_field(trunk.eval(), 2)
    assert found == ReceptiveField(*closed_form(layers))
    assert found.size_px == closed_form(layers)[0] + closed_form(layers)[1] + closed_form(layers)[2]


def test_dilation_pooling_and_missing_padding():
    dilated = nn.Conv2d(1, 1, 3, dilation=4, padding=4)
    assert receptive_field(dilated, 1) == ReceptiveField(4, 4, 1)
    # Cell k of a convolution without padding begins with its own pixel.
    assert receptive_field(nn.Conv2d(1, 1, 5), 1) == ReceptiveField(0, 4, 1)
    assert receptive_field(nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.MaxPool2d(2)), 1) == ReceptiveField(1, 1, 2)
    # A window that is wider than high counts in both directions.
    assert receptive_field(nn.Conv2d(1, 1, (1, 9), padding=(0, 4)), 1) == ReceptiveField(4, 4, 1)
    assert receptive_field(nn.Conv2d(1, 1, (9, 1), padding=(4, 0)), 1) == ReceptiveField(4, 4, 1)


def test_a_network_that_looks_at_everything_has_none():
    class Excited(nn.Module):
        def forward(self, images):
            return images * images.mean((2, 3), keepdim=True)

    assert receptive_field(Excited(), 1) is None


# Araujo, Norris and Sim (2019); ResNet-50 is torchvision's, whose strides lie in the 3 x 3 convolutions.
@pytest.mark.parametrize(("name", "size_px"), [("resnet18", 435), ("resnet50", 427), ("alexnet", 195)])
def test_published_fields(name, size_px):
    found = receptive_field(load_backbone(name, weights=None, seed=0).trunk, 3)
    assert (found.size_px, found.stride_px) == (size_px, 32)


def test_uneven_padding_is_seen_as_it_is():
    found = receptive_field(load_backbone("efficientnet_lite0", weights=None, seed=0).trunk, 3)
    assert (found.before_px, found.after_px, found.radius_px) == (394, 425, 425)


def test_the_field_is_where_gradients_end():
    trunk = load_backbone("squeezenet1_1", weights=None, seed=0).trunk
    field = receptive_field(trunk, 3)
    side, cell = 448, 13
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)).requires_grad_()
    trunk(image)[0, :, cell, cell].sum().backward()
    seen = image.grad.abs().sum((0, 1)).sum(0).nonzero().flatten()
    assert int(seen[0]) >= cell * field.stride_px - field.before_px
    assert int(seen[-1]) <= (cell + 1) * field.stride_px - 1 + field.after_px
    # Only some gradients at the very rim are zero.
    assert int(seen[-1] - seen[0]) > 0.9 * field.size_px


def test_what_no_image_fits_is_refused():
    class Never(nn.Module):
        def forward(self, images):
            raise RuntimeError("too small")

    with pytest.raises(FeatureError, match="takes no image"):
        receptive_field(Never(), 3)
