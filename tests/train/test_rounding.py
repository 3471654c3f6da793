import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from asr.nn.model import AcousticModel, EncoderConfig  # noqa: E402
from asr.nn.rounding import fit_blocks, round_model, rounded, rounded_layers, straight_through  # noqa: E402


def weights_of(seed, n_outputs=5, n_inputs=80):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_outputs, n_inputs, generator=generator) * 10 ** torch.randn(1, generator=generator)


@given(st.integers(0, 10_000), st.integers(2, 8), st.integers(1, 80), st.sampled_from((16, 32)))
@settings(max_examples=60, deadline=None)
def test_what_is_rounded_stays_so(seed, bits, n_inputs, block_size):
    once = rounded(weights_of(seed, n_inputs=n_inputs), bits, block_size)
    assert torch.equal(rounded(once, bits, block_size), once)


@given(st.integers(0, 10_000), st.integers(2, 8))
@settings(max_examples=40, deadline=None)
def test_steps_and_scales_are_what_a_graph_can_hold(seed, bits):
    weights = weights_of(seed, n_inputs=90)
    steps, scale = fit_blocks(weights, bits)
    assert steps.shape == (5, 6, 16)
    assert scale.shape == (5, 6, 1)
    assert torch.equal(steps, steps.round())
    assert -(2 ** (bits - 1)) <= steps.min() <= steps.max() < 2 ** (bits - 1)
    assert torch.equal(scale, scale.half().float())
    assert not steps[:, 5, 10:].any()  # behind the last input


@given(st.integers(0, 10_000), st.integers(3, 4))
@settings(max_examples=30, deadline=None)
def test_no_clipping_of_a_fine_grid_is_much_better(seed, bits):
    """Oracle: every scale of a fine grid, one block at a time."""
    weights = weights_of(seed, 3, 16)
    high = 2 ** (bits - 1) - 1
    for row, found in zip(weights, rounded(weights, bits), strict=True):
        errors = []
        for scale in torch.linspace(0.4, 1.1, 300) * row.abs().max() / high:
            nearest = torch.round(row / scale).clamp(-high - 1, high) * scale
            errors.append(float((nearest - row).square().sum()))
        assert float((found - row).square().sum()) <= 1.3 * min(errors)


def test_more_bits_are_nearer():
    weights = weights_of(1)
    errors = [float((rounded(weights, bits) - weights).square().sum()) for bits in range(2, 9)]
    assert errors == sorted(errors, reverse=True)


def test_zeros_and_the_tiniest_stay_finite():
    weights = torch.tensor([[0.0] * 32, [1e-12] * 32])
    assert not rounded(weights, 4).any()


@pytest.mark.parametrize("bits", [0, 1, 9])
def test_bits_out_of_range(bits):
    with pytest.raises(ValueError, match=rf"bits is {bits}, expected 2 to 8"):
        rounded(weights_of(0), bits)


def test_gradients_pass_through():
    torch.manual_seed(0)
    model = AcousticModel(
        EncoderConfig(d_model=16, n_heads=2, n_layers=1, d_ff=24, kernel=3, left_context=16, look_ahead=2, vocab_size=6)
    )
    weights = straight_through(model, 4)
    assert list(weights) == rounded_layers(model)
    assert "frontend.linear.weight" not in weights
    assert {"blocks.0.first.expand.weight", "blocks.0.attention.out.weight", "head.weight"} <= set(weights)
    kept = {name: values.detach().clone() for name, values in weights.items()}
    weights["head.weight"].sum().backward()
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    round_model(model, 4)
    state = model.state_dict()
    for name, values in kept.items():
        assert torch.allclose(state[name], values, atol=1e-7)
