import pytest

torch = pytest.importorskip("torch")

from asr.nn.model import AcousticModel, EncoderConfig  # noqa: E402
from asr.train.checkpoint import open_checkpoint, write_model  # noqa: E402
from asr.train.cli import main  # noqa: E402
from asr.train.deepen import deepened  # noqa: E402

FEATURES = torch.randn(2, 64, 80, generator=torch.Generator().manual_seed(1))


def small_model(**changes):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "n_heads": 2, "n_layers": 3, "d_ff": 24, "kernel": 7, "left_context": 8, "look_ahead": 3}
    return AcousticModel(EncoderConfig(**sizes | changes, vocab_size=6)).eval()


@pytest.mark.parametrize("after", [[0], [2], [1, 1], [0, 1, 2]])
@torch.inference_mode()
def test_a_deepened_network_says_the_same(after):
    model = small_model()
    deep = deepened(model, after).eval()
    assert deep.config.n_layers == 3 + len(after)
    for chunk in (8, None):
        assert torch.equal(deep(FEATURES, chunk=chunk), model(FEATURES, chunk=chunk))


def test_every_new_layer_learns():
    deep = deepened(small_model(look_ahead=1), [0, 2])
    assert deep.config.open_blocks == (1, 4)
    optimizer = torch.optim.SGD(deep.parameters(), 0.1)
    for _ in range(2):  # at first only those that write have a gradient
        optimizer.zero_grad()
        deep(FEATURES, chunk=8)[..., 0].sum().backward()
        optimizer.step()
    for block in deep.config.open_blocks:
        for name, parameter in deep.blocks[block].named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name


@torch.inference_mode()
def test_deepened_twice():
    model = small_model()
    again = deepened(deepened(model, [1]), [2, 3]).eval()
    assert again.config.open_blocks == (2, 3, 5)
    assert torch.equal(again(FEATURES, chunk=8), model(FEATURES, chunk=8))


@torch.inference_mode()
def test_command(tmp_path, capsys):
    model = small_model()
    (tmp_path / "start").mkdir()
    write_model(tmp_path / "start", model, 7)
    assert main(["deepen", "--checkpoint", str(tmp_path / "start"), "--after", "1", "--left-context", "16",
                 "--out", str(tmp_path / "deep")]) == 0  # fmt: skip
    assert "4 blocks" in capsys.readouterr().out
    deep = open_checkpoint(tmp_path / "deep").model().eval()
    assert deep.config.left_context == 16
    assert deep.config.open_blocks == (2,)
    assert torch.allclose(deep(FEATURES), model(FEATURES), atol=1e-6)


@pytest.mark.parametrize("after", [[], [3], [-1]])
def test_no_such_block(after):
    with pytest.raises(ValueError, match="expected 0 to 2"):
        deepened(small_model(), after)


def test_what_cannot_be_deepened():
    with pytest.raises(ValueError, match="conformer"):
        deepened(small_model(architecture="transformer", kernel=1), [0])
    with pytest.raises(ValueError, match="compressed"):
        deepened(small_model(hidden_units={"blocks.0.first": 8}), [0])


def test_open_blocks_are_checked():
    with pytest.raises(ValueError, match="open_blocks"):
        EncoderConfig(n_layers=2, open_blocks=(2,))
    assert EncoderConfig(open_blocks=[1]).open_blocks == (1,)
