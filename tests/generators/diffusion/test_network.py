"""Both networks behind one call."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from transcriptome_diffusion.generators.diffusion.network import SinusoidalTime, build_network
from transcriptome_diffusion.generators.options import NetworkOptions

KINDS = ["film", "paper"]
CATEGORIES = [4, 3]


def inputs(n: int = 6, genes: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    codes = torch.stack([torch.randint(0, count, (n,), generator=generator) for count in CATEGORIES], 1)
    return torch.randn(n, genes, generator=generator), torch.linspace(0.1, 1, n), codes


def network(kind: str, **options: object) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_network(
        10,
        10,
        CATEGORIES,
        NetworkOptions.model_validate({"kind": kind, "width": 16, "embedding_dim": 8, **options}),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [1, 3])
def test_the_output_has_the_shape_of_the_input(kind: str, depth: int) -> None:
    assert network(kind, depth=depth)(*inputs()).shape == (6, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_gets_a_gradient_once_the_output_is_not_zero(kind: str) -> None:
    net = network(kind, dropout=0.0)
    torch.nn.init.normal_(net.out.weight)
    for module in net.modules():  # the modulation starts at zero, behind which nothing learns at the first step
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.1)
    net(*inputs(64)).square().sum().backward()
    idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_the_output_depends_on_profile_time_and_each_condition(kind: str, which: int) -> None:
    net = network(kind).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x, time, codes = inputs()
    other = [x.clone(), time.clone(), codes.clone()]
    if which < 2:
        other[which] = other[which] * 0.5
    else:
        column = which - 2
        other[2][:, column] = (codes[:, column] + 1) % CATEGORIES[column]
    difference = (net(x, time, codes) - net(*other)).abs().amax(1)
    assert (difference > 1e-4).all()


def test_our_network_starts_at_zero() -> None:
    assert torch.equal(network("film")(*inputs()), torch.zeros(6, 10))


def test_rows_do_not_see_each_other_when_sampling() -> None:
    for kind in KINDS:
        net = network(kind).eval()
        x, time, codes = inputs()
        torch.testing.assert_close(net(x, time, codes)[:2], net(x[:2], time[:2], codes[:2]))


def test_times_of_neighbouring_steps_are_told_apart() -> None:
    embedding = SinusoidalTime(64)
    angles = torch.linspace(0, 1, 1001)[:, None] * embedding.frequencies
    features = torch.cat([angles.sin(), angles.cos()], 1)
    distance = torch.cdist(features, features) + 1e3 * torch.eye(1001)
    assert distance.min() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_codes_of_classes_do_what_codes_of_profiles_do(kind: str) -> None:
    net = network(kind).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    x, _, codes = inputs()
    classes, rows = torch.unique(codes, dim=0, return_inverse=True)
    time = torch.tensor([0.3])
    torch.testing.assert_close(net(x, time, classes, rows), net(x, time.expand(len(x)), codes), rtol=1e-5, atol=1e-6)
