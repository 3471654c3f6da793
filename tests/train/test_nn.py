import pytest

torch = pytest.importorskip("torch")

from asr.nn.model import ARCHITECTURES, AcousticModel, EncoderConfig, with_left_context  # noqa: E402


@pytest.fixture(params=ARCHITECTURES)
def architecture(request):
    return request.param


def small_model(look_ahead=3, left_context=10, n_layers=2, architecture="conformer"):
    torch.manual_seed(0)
    config = EncoderConfig(architecture=architecture, d_model=16, n_heads=2, n_layers=n_layers, d_ff=24,
                           kernel=7 if architecture == "conformer" else 1, left_context=left_context,
                           look_ahead=look_ahead, vocab_size=6)  # fmt: skip
    model = AcousticModel(config).eval()
    if architecture == "conformer":
        for block in model.blocks:
            torch.nn.init.normal_(block.convolution.edge, std=0.5)
    return model


def streamed(model, features, chunk, batch=1):
    ahead = 2 * model.config.look_ahead
    padded = torch.nn.functional.pad(features, (0, 0, 0, ahead), value=-15.942385)
    state, out = model.initial_state(batch), []
    for start in range(0, features.shape[1], 2 * chunk):
        log_probs, state = model.step(padded[:, start : start + 2 * chunk + ahead], state)
        out.append(log_probs)
    return torch.cat(out, 1), state


@pytest.mark.parametrize("look_ahead", [0, 1, 3])
@pytest.mark.parametrize("chunk", [4, 8, 16])
@torch.inference_mode()
def test_step_equals_forward(architecture, chunk, look_ahead):
    model = small_model(look_ahead, architecture=architecture)
    features = torch.randn(2, 96, 80)
    steps, state = streamed(model, features, chunk, batch=2)
    assert torch.allclose(steps, model(features, chunk=chunk), atol=1e-4)
    assert state.n_frames.tolist() == [48, 48]


@torch.inference_mode()
def test_one_chunk_over_everything_is_full_context():
    model = small_model(look_ahead=0)
    for block in model.blocks:
        torch.nn.init.zeros_(block.convolution.edge)
    features = torch.randn(1, 64, 80)
    assert torch.allclose(model(features, chunk=32), model(features), atol=1e-4)


@torch.inference_mode()
def test_a_frame_does_not_see_beyond_its_window(architecture):
    model = small_model(look_ahead=3, architecture=architecture)
    features = torch.randn(1, 96, 80)
    changed = features.clone()
    changed[:, 2 * (16 + 3) :] += 5
    before, after = (model(x, chunk=16)[:, :16] for x in (features, changed))
    assert torch.equal(before, after)
    changed[:, 2 * (16 + 3) - 1] += 5
    assert not torch.allclose(before, model(changed, chunk=16)[:, :16])


@torch.inference_mode()
def test_left_context_is_limited(architecture):
    model = small_model(left_context=10, architecture=architecture)
    features = torch.randn(1, 192, 80)
    changed = features.clone()
    changed[:, :8] += 5
    before, after = (model(x, chunk=8) for x in (features, changed))
    assert not torch.allclose(before[:, 8:16], after[:, 8:16])
    assert torch.allclose(before[:, 64:], after[:, 64:], atol=1e-5)


@torch.inference_mode()
def test_left_context_may_grow(architecture):
    model = small_model(left_context=10, architecture=architecture)
    features = torch.randn(1, 192, 80)
    longer = with_left_context(model, 400).eval()
    assert longer.config.left_context == 400
    short, long = model(features, chunk=8), longer(features, chunk=8)
    assert torch.allclose(short[:, :8], long[:, :8], atol=1e-5)
    assert not torch.allclose(short[:, 64:], long[:, 64:], atol=1e-4)


@torch.inference_mode()
def test_padding_does_not_matter_with_full_context():
    model = small_model(n_layers=1)
    clip, longer = torch.randn(1, 40, 80), torch.full((1, 80, 80), -15.942385)
    longer[:, :40] = clip
    lens = torch.tensor([20])
    inner = slice(0, 20 - 3)  # the convolution reaches three frames beyond the end
    assert torch.allclose(model(clip, lens)[:, inner], model(longer, lens)[:, inner], atol=1e-5)


@torch.inference_mode()
def test_normalizing_features_changes_no_output():
    model = small_model()
    features = torch.randn(1, 32, 80) * 4 - 7
    before = model(features, chunk=8)
    model.frontend.normalize_features(torch.randn(80) - 7, torch.rand(80) + 2)
    assert torch.allclose(before, model(features, chunk=8), atol=1e-4)
    model.frontend.normalize_features(torch.zeros(80), torch.ones(80))
    assert torch.allclose(before, model(features, chunk=8), atol=1e-4)


@torch.inference_mode()
def test_positions_start_anew_after_thirty_seconds():
    model = small_model(architecture="transformer")
    features = torch.randn(1, 32, 80)
    first, later, anew = (model(features, chunk=8, start=start) for start in (0, 700, 1500))
    assert not torch.allclose(first, later, atol=1e-3)
    assert torch.equal(first, anew)


@torch.inference_mode()
def test_a_stream_may_cross_the_turn_of_positions():
    model = small_model(architecture="transformer")
    features = torch.randn(1, 128, 80)
    state = model.initial_state()
    state.n_frames.fill_(1500 - 24)
    for key in state.key:
        key.normal_()
    steps = []
    for start in range(0, 128 - 6, 16):
        log_probs, state = model.step(features[:, start : start + 16 + 6], state)
        steps.append(log_probs)
    whole = model(features, chunk=8, start=1500 - 24)
    distant = slice(40, 56)  # beyond the made-up keys, before the end's silence
    assert torch.allclose(torch.cat(steps, 1)[:, distant], whole[:, distant], atol=1e-4)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"kernel": 8}, "odd"), ({"architecture": "rnn"}, "expected one of conformer, transformer"),
     ({"architecture": "transformer"}, "expected 1 for a transformer"), ({"kernel": 1}, "more for a conformer")],
)  # fmt: skip
def test_impossible_networks_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AcousticModel(EncoderConfig(**values))
