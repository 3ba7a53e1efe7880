"""The networks of Lacan et al.: their size as the authors' code has it, their labels, and their first weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from transcriptome_diffusion.generators.diffusion.network import IndicatorEmbedding, build_network
from transcriptome_diffusion.generators.latent import Coordinates
from transcriptome_diffusion.generators.options import NetworkOptions, VAEOptions, WGANGPOptions
from transcriptome_diffusion.generators.vae import Autoencoder
from transcriptome_diffusion.generators.wgan_gp import AdversarialObjective, GeneratorNetwork

PAPER: dict[str, Any] = {"architecture": "paper", "space": "genes", "embedding_dim": 2, "batch_norm": True}


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def denoiser(genes: int, classes: int, width: int, **options: Any) -> nn.Module:
    chosen = NetworkOptions.model_validate(
        {"kind": "paper", "width": width, "depth": 2, "dropout": 0.1, "embedding_dim": 2, **options}
    )
    return build_network(genes, genes, [classes], chosen)


def autoencoder(genes: int, classes: int, hidden: list[int], latent_dim: int = 128) -> Autoencoder:
    options = VAEOptions.model_validate({**PAPER, "hidden": hidden, "latent_dim": latent_dim, "dropout": 0.0})
    return Autoencoder(Coordinates(genes, None), [classes], options)


def adversaries(
    genes: int, classes: int, hidden: list[int], critic: list[int], latent_dim: int = 32
) -> AdversarialObjective:
    options = WGANGPOptions.model_validate(
        {**PAPER, "hidden": hidden, "latent_dim": latent_dim, "critic": {"hidden": critic}}
    )
    return AdversarialObjective(GeneratorNetwork(Coordinates(genes, None), [classes], options), [classes], options)


# ------------------------------------------------------------------ sizes, by instantiation of the authors' modules
@pytest.mark.parametrize(
    ("genes", "classes", "width", "parameters"),
    [
        (974, 26, 8192, 227_601_318),
        (974, 20, 8192, 227_109_786),
        (978, 24, 4096, 63_437_742),
        (977, 14, 1024, 6_318_999),
    ],
)
def test_the_denoiser_has_the_size_of_the_papers(genes: int, classes: int, width: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count(denoiser(genes, classes, width)) == parameters


@pytest.mark.parametrize(
    ("genes", "classes", "hidden", "parameters"),
    [
        (974, 26, [8192, 4096, 4096, 2048], {"all": 134_842_626, "encoder": 67_180_544, "decoder": 67_124_174}),
        (978, 24, [2048, 8192, 256, 4096], {"all": 45_820_674, "encoder": 22_067_968, "decoder": 22_691_538}),
    ],
)
def test_the_autoencoder_has_the_size_of_the_papers(
    genes: int, classes: int, hidden: list[int], parameters: dict[str, int]
) -> None:
    with torch.device("meta"):
        model = autoencoder(genes, classes, hidden)
    embedding = 2 * classes
    found = {
        "all": count(model),
        "encoder": count(model.encoder.layers),  # the heads are counted apart
        "decoder": count(model.decoder) - embedding,
    }
    assert found == parameters
    heads = 2 * (hidden[-1] + embedding + 1) * 128
    assert found["all"] == found["encoder"] + found["decoder"] + heads + embedding


@pytest.mark.parametrize(
    ("genes", "classes", "hidden", "critic", "parameters"),
    [
        (974, 26, [128, 1024, 4096], [8192, 256], (8_659_290, 10_524_265)),
        (978, 24, [256, 1024, 8192], [4096, 128], (17_201_762, 4_737_377)),
    ],
)
def test_generator_and_critic_have_the_size_of_the_papers(
    genes: int, classes: int, hidden: list[int], critic: list[int], parameters: tuple[int, int]
) -> None:
    with torch.device("meta"):
        model = adversaries(genes, classes, hidden, critic)
    assert (count(model.network), count(model.critic)) == parameters


# ------------------------------------------------------------------ labels
def test_a_label_is_two_numbers_at_every_place_and_its_own_place_has_row_one() -> None:
    labels = IndicatorEmbedding([3], 2)
    (found,) = labels(torch.tensor([[2], [0]]))
    absent, present = labels.tables[0].weight[:2]
    torch.testing.assert_close(
        found, torch.stack([torch.cat([absent, absent, present]), torch.cat([present, absent, absent])])
    )


def test_the_table_is_looked_up_with_the_indicators_as_positions() -> None:
    """As the authors' code does it, for two conditions."""
    labels, codes = IndicatorEmbedding([4, 3], 2), torch.tensor([[1, 2], [3, 0], [0, 1]])
    for table, size, column, found in zip(labels.tables, [4, 3], codes.T, labels(codes), strict=True):
        torch.testing.assert_close(found, table(nn.functional.one_hot(column, size)).flatten(1))


def networks() -> dict[str, tuple[nn.Module, Tensor]]:
    """Each network after a backward pass of its output for all of five classes."""
    torch.manual_seed(0)
    codes, x, time = torch.arange(5).repeat(4)[:, None], torch.randn(20, 7), torch.rand(20)
    vae, gan, denoising = autoencoder(7, 5, [16, 8], 3), adversaries(7, 5, [8, 16], [8, 4], 3), denoiser(7, 5, 16)
    return {
        "denoiser": (denoising, denoising(x, time, codes)),
        "autoencoder": (vae, vae.terms(x, codes, torch.randn(20, 3))["loss"]),
        "generator": (gan.network, gan.network.draw(codes, torch.Generator().manual_seed(0))),
        "critic": (gan.critic, gan.critic_value(x, codes)),
    }


@pytest.mark.parametrize("name", ["denoiser", "autoencoder", "generator", "critic"])
def test_only_the_first_two_rows_of_the_labels_table_get_a_gradient_and_all_other_weights_get_one(name: str) -> None:
    network, output = networks()[name]
    output.square().sum().backward()
    (table,) = {p for part, p in network.named_parameters() if "tables" in part}  # the autoencoder's is shared
    assert table.shape == (5, 2)
    assert table.grad is not None
    assert (table.grad[:2].abs().sum(1) > 0).all()
    assert (table.grad[2:] == 0).all()
    # a bias before batch norm has no effect in training
    idle = [part for part, p in network.named_parameters() if p.grad is None]
    assert idle == []


# ------------------------------------------------------------------ shapes and first weights
def test_time_enters_every_dense_layer_of_the_denoiser_but_not_its_shortcut() -> None:
    network = denoiser(7, 5, 16)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters() if p.ndim == 2 and "tables" not in name}
    labels = 10
    assert shapes == {
        "blocks.0.first.dense.weight": (16, 7 + 1 + labels),
        "blocks.0.second.dense.weight": (16, 16 + 1 + labels),
        "blocks.0.shortcut.weight": (16, 7 + labels),
        "blocks.1.first.dense.weight": (16, 16 + 1 + labels),
        "blocks.1.second.dense.weight": (16, 16 + 1 + labels),
        "out.weight": (7, 16),
    }
    norms = [part for part in network.modules() if isinstance(part, nn.LayerNorm)]
    assert [part.normalized_shape[0] for part in norms] == [8, 16, 17, 16, 17, 16, 17, 16, 16]
    assert {part.eps for part in norms} == {1e-6}


def test_the_second_block_adds_its_layers_to_what_it_is_given() -> None:
    network = denoiser(7, 5, 16).eval()
    for block in network.blocks:
        for norm in (block.first.after[0], block.second.after[0]):
            nn.init.zeros_(norm.weight)
            nn.init.zeros_(norm.bias)
    x, codes = torch.randn(4, 7), torch.tensor([[0], [1], [2], [3]])
    labels = nn.functional.silu(torch.cat(network.labels(codes), dim=1))
    direct = network.blocks[0].shortcut(torch.cat([x, labels], dim=1))
    expected = network.out(nn.functional.silu(network.norm(direct)))
    torch.testing.assert_close(network(x, torch.rand(4), codes), expected)


def test_the_denoisers_time_can_start_at_zero() -> None:
    torch.manual_seed(0)
    shifted, plain = denoiser(7, 5, 16, time_shift=0.25).eval(), denoiser(7, 5, 16).eval()
    plain.load_state_dict(shifted.state_dict())
    x, codes = torch.randn(3, 7), torch.zeros(3, 1, dtype=torch.int64)
    torch.testing.assert_close(shifted(x, torch.full((3,), 0.75), codes), plain(x, torch.full((3,), 0.5), codes))


def test_labels_enter_the_autoencoder_at_the_first_layers_and_the_heads() -> None:
    model = autoencoder(7, 5, [16, 8], 3)
    widths = [layer.in_features for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert widths == [7 + 10, 16, 8 + 10, 3 + 10, 8, 16]
    assert model.encoder.labels is model.decoder.labels
    slopes = {layer.negative_slope for layer in model.modules() if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.05}


def test_encoder_and_decoder_start_as_in_the_paper() -> None:
    torch.manual_seed(0)
    model = autoencoder(300, 5, [200, 100], 20)
    for stack in (model.encoder.layers, model.decoder):
        for layer in (part for part in stack.modules() if isinstance(part, nn.Linear)):
            bound = (6 / (layer.in_features + layer.out_features)) ** 0.5
            assert float(layer.weight.detach().abs().max()) == pytest.approx(bound, rel=0.02)
            assert (layer.bias == 0.01).all()
    heads = model.encoder.out
    assert float(heads.weight.detach().abs().max()) == pytest.approx(heads.in_features**-0.5, rel=0.02)
    assert not (heads.bias == 0.01).any()
    table = model.encoder.labels.tables[0].weight
    assert table.unique().numel() == table.numel()


def test_the_posterior_is_not_bounded() -> None:
    model = autoencoder(7, 5, [16, 8], 3).eval()
    nn.init.constant_(model.encoder.out.bias, -50.0)
    nn.init.zeros_(model.encoder.out.weight)
    _, log_variance = model.encode(torch.randn(4, 7), torch.zeros(4, 1, dtype=torch.int64))
    assert (log_variance == -50).all()


def test_labels_enter_every_layer_of_generator_and_critic_and_only_the_generator_has_batch_norm() -> None:
    model = adversaries(7, 5, [8, 16], [12, 4], 3)
    widths = [layer.in_features for layer in model.network.body.modules() if isinstance(layer, nn.Linear)]
    assert widths == [3 + 10, 8 + 10, 16 + 10]
    assert [layer.in_features for layer in model.critic.modules() if isinstance(layer, nn.Linear)] == [17, 22, 14]
    assert [type(part[1]) for part in model.network.body.layers] == [nn.BatchNorm1d, nn.BatchNorm1d]
    assert not [part for part in model.critic.modules() if isinstance(part, nn.BatchNorm1d)]
    assert model.network.body.labels is not model.critic.labels
    heads = model.critic.out
    assert float(heads.weight.detach().abs().max()) <= heads.in_features**-0.5


def test_the_means_are_the_bound_with_another_weight() -> None:
    """Mean squared error plus mean divergence are twice the bound with beta = width / (2 latents)."""
    torch.manual_seed(0)
    u, codes, epsilon = torch.randn(30, 7), torch.zeros(30, 1, dtype=torch.int64), torch.randn(30, 3)
    model = autoencoder(7, 5, [16, 8], 3).eval()
    losses = {}
    for loss, beta in (("means", 1.0), ("bound", 7 / (2 * 3))):
        model.options = model.options.model_copy(update={"loss": loss, "beta": beta})
        losses[loss] = model.terms(u, codes, epsilon)["loss"]
    torch.testing.assert_close(losses["means"], 2 * losses["bound"])
    mean, log_variance = model.encode(u, codes)
    squared = (model.decoder(mean + (0.5 * log_variance).exp() * epsilon, codes) - u).square().mean()
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
    torch.testing.assert_close(losses["means"], squared + divergence)
