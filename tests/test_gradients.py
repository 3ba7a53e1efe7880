"""Gradients of a step, alone and as CUDA graphs; on a GPU also that it computes what a CPU computes."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from transcriptome_diffusion import gradients as module
from transcriptome_diffusion.generators.diffusion.denoiser import Denoiser
from transcriptome_diffusion.generators.diffusion.model import Diffusion
from transcriptome_diffusion.generators.latent import Coordinates
from transcriptome_diffusion.generators.options import DiffusionOptions
from transcriptome_diffusion.generators.vae import VAE
from transcriptome_diffusion.generators.wgan_gp import WGANGP
from transcriptome_diffusion.gradients import gradients
from transcriptome_diffusion.options import TrainingOptions
from transcriptome_diffusion.training import fit, is_adversarial, named

GENES, TISSUES, PROFILES = 12, 3, 90
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED FOR LACK OF A GPU")


def squares(layer: nn.Module) -> Any:
    return lambda batch: {"loss": layer(batch[0]).square().mean(), "sum": layer(batch[0]).sum()}


def test_gradients_are_those_of_one_batch_alone() -> None:
    torch.manual_seed(0)
    layer, x, other = nn.Linear(3, 2), torch.randn(5, 3), torch.randn(4, 3)
    gradients(squares(layer), list(layer.parameters()), (other,))
    terms = gradients(squares(layer), list(layer.parameters()), (x,))
    out = x @ layer.weight.T + layer.bias
    torch.testing.assert_close(layer.weight.grad, (2 * out.T @ x / out.numel()).detach())
    torch.testing.assert_close(terms, {"loss": out.square().mean().detach(), "sum": out.sum().detach()})
    assert not any(value.requires_grad for value in terms.values())


def test_only_the_named_parameters_get_a_gradient() -> None:
    layer, critic, x = nn.Linear(3, 2), nn.Linear(2, 1), torch.randn(5, 3)
    gradients(lambda batch: {"loss": critic(layer(batch[0])).sum()}, list(layer.parameters()), (x,))
    torch.testing.assert_close(layer.weight.grad, critic.weight.T.detach() * x.sum(0))
    assert critic.weight.grad is None


def test_a_step_within_autocast_is_seen_by_the_next_gradient() -> None:
    layer, x = nn.Linear(3, 2, bias=False), torch.ones(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        for value in (1.0, 2.0):
            with torch.no_grad():
                layer.weight.fill_(value)
            terms = gradients(squares(layer), list(layer.parameters()), (x,))
            assert terms["sum"] == 6 * value


def model_of(kind: str) -> nn.Module:
    """A small network of the kind, untrained."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {"conditions": ["tissue"]}
    if kind in ("film", "paper"):
        network = {"kind": kind, "width": 32, "depth": 2, "dropout": 0.0, "embedding_dim": 2 if kind == "paper" else 16}
        options = DiffusionOptions.model_validate(settings | {"prediction": "eps", "network": network})
        return Denoiser(options, Diffusion.noise_path(options), GENES, [TISSUES], None)
    settings |= {"space": "genes", "hidden": [32, 16], "latent_dim": 8}
    model: type[VAE | WGANGP] = {"vae": VAE, "wgan_gp": WGANGP}[kind]
    return model.to_train(Coordinates(GENES, None), [TISSUES], model.options.model_validate(settings))


@pytest.mark.parametrize("kind", ["film", "paper", "vae", "wgan_gp"])
def test_only_a_model_with_a_critic_is_adversarial(kind: str) -> None:
    # a critic is a submodule, which `isinstance` of a protocol overlooks from Python 3.12 on
    assert is_adversarial(model_of(kind)) == (kind == "wgan_gp")


def profiles(seed: int, count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(TISSUES, (count, 1), generator=generator)
    return torch.randn((count, GENES), generator=generator) + codes, codes


def trained(kind: str, device: str, **changes: Any) -> tuple[nn.Module, dict[str, Any]]:
    model = model_of(kind)
    settings = {"device": device, "max_steps": 40, "validate_every": 20, "batch_size": 32, "partial_batches": True}
    settings |= {"learning_rate": 1e-3, "precision": "float32"} | changes
    return model, fit(model, profiles(1, PROFILES), profiles(2, 40), TrainingOptions.model_validate(settings), seed=3)


KINDS = ("film", "paper", "vae", "wgan_gp")


@on_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_cpu_and_gpu_have_the_same_gradients(kind: str) -> None:
    found = []
    for device in ("cpu", "cuda"):
        model: Any = model_of(kind).to(device).eval()
        learnt = list(model.parameters())
        batch = tuple(tensor.to(device) for tensor in profiles(2, 40))
        terms = gradients(lambda batch, model=model: named(model.validation_loss(batch)), learnt, batch)
        found.append([terms["loss"].cpu(), *(p.grad.cpu() for p in learnt if p.grad is not None)])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-5)


@on_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_trains_as_its_kernels_do(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[module.GradientGraphs] = []
    record = module.GradientGraphs.record

    def noticed(self: module.GradientGraphs, batch: tuple[Tensor, ...]) -> module.Recorded:
        graphs.append(self)
        return record(self, batch)

    monkeypatch.setattr(module.GradientGraphs, "record", noticed)
    with_graphs, curve = trained(kind, "cuda")
    assert len(graphs) == (4 if kind == "wgan_gp" else 2)  # whole and partial batches, with a critic for both networks
    assert len(set(map(id, graphs))) == len(graphs) / 2
    assert all(graph.works for graph in graphs)
    monkeypatch.setattr(module, "WARM_UP", 10**9)
    without, other = trained(kind, "cuda")
    torch.testing.assert_close(with_graphs.state_dict(), without.state_dict(), rtol=1e-3, atol=1e-4)
    assert curve["curve"][-1]["train_loss"] == pytest.approx(other["curve"][-1]["train_loss"], rel=1e-3)


@on_gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", ["float32", "auto"])
def test_cpu_and_gpu_learn_the_same(kind: str, precision: str) -> None:
    cpu, gpu = (trained(kind, device, max_steps=300, precision=precision)[1] for device in ("cpu", "cuda"))
    losses = [record["curve"][-1]["validation_loss"] for record in (cpu, gpu)]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # they draw other random numbers


@on_gpu
def test_training_goes_on_without_a_graph_that_cannot_be_recorded(caplog: pytest.LogCaptureFixture) -> None:
    layer, device = nn.Linear(3, 2).cuda(), torch.device("cuda", 0)
    plain = copy.deepcopy(layer)

    def waits(batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        loss = layer(batch[0]).square().mean()
        float(loss.detach())  # a graph has no number yet
        return {"loss": loss}

    steps = module.GradientGraphs(waits, list(layer.parameters()), torch.Generator(device))
    for seed in range(module.WARM_UP + 2):
        x = torch.randn((4, 3), generator=torch.Generator().manual_seed(seed)).cuda()
        found = steps((x,))
        torch.testing.assert_close(found["loss"], plain(x).square().mean().detach())
    assert "goes on without CUDA graphs" in caplog.text
