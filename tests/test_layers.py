"""Dense layers that fill up their products: the numbers of ``nn.Linear``, and of its gradients."""

import pytest
import torch
from torch import Tensor, nn

from transcriptome_diffusion.layers import WORD, DenseLayer


@pytest.mark.parametrize(("n_in", "n_out"), [(13, 5), (16, 8), (1, 1), (8, 3)])
def test_a_filled_up_product_is_that_of_a_linear_layer(n_in: int, n_out: int) -> None:
    torch.manual_seed(0)
    layer, x = DenseLayer(n_in, n_out), torch.randn(7, n_in, requires_grad=True)

    def gradients(out: Tensor) -> list[Tensor]:
        first = torch.autograd.grad(out.square().sum(), [x, *layer.parameters()], create_graph=True)
        return [out, *first, *torch.autograd.grad(first[0].norm(), [x, *layer.parameters()])]

    torch.testing.assert_close(gradients(layer.filled_up(x)), gradients(nn.Linear.forward(layer, x)))


def test_a_filled_up_product_has_whole_words_and_the_precision_of_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Size, torch.dtype]] = []
    linear = nn.functional.linear

    def watched(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        seen.append((weight.shape, weight.dtype))
        return linear(x, weight, bias)

    monkeypatch.setattr(nn.functional, "linear", watched)
    layer = DenseLayer(13, 5)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer.filled_up(torch.randn(7, 13))
        expected = linear(torch.randn(7, 13), layer.weight, layer.bias)
    assert found.shape == (7, 5)
    assert found.dtype == expected.dtype == torch.bfloat16
    assert seen == [(torch.Size((WORD, 2 * WORD)), torch.bfloat16)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED FOR LACK OF A GPU")
def test_layers_on_a_gpu_compute_what_they_compute_on_a_cpu() -> None:
    torch.manual_seed(0)
    layer, x = DenseLayer(1027, 978), torch.randn(50, 1027)
    with torch.no_grad():
        expected = layer(x)
        torch.testing.assert_close(layer.cuda()(x.cuda()).cpu(), expected, rtol=1e-3, atol=1e-3)
