import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr.nn.model import AcousticModel, EncoderConfig  # noqa: E402
from asr.nn.seed import (  # noqa: E402
    SEED_VOCAB,
    build_seed,
    fit_feature_map,
    label_index,
    move_frontend,
    read_asset,
    seed_features,
    seed_labels,
)
from lm.phones import PHONEMES  # noqa: E402

RATE_HZ = 16000


@pytest.fixture(scope="module")
def asset():
    pytest.importorskip("hama")
    return read_asset()


def babble(n_samples, seed=0):
    """Harmonics of a gliding voice under three wandering formants, in syllables, and a little noise; in [-1, 1]."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(n_samples) / RATE_HZ
    pitch_hz = 110 + 40 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    formants_hz = [
        centre + width * np.sin(2 * np.pi * rate * time_s + rng.uniform(0, 2 * np.pi))
        for centre, width, rate in ((500, 300, 1.3), (1500, 600, 0.9), (2500, 300, 1.7))
    ]
    voice = np.zeros(n_samples)
    for harmonic in range(1, 35):
        level = sum(np.exp(-(((harmonic * pitch_hz - formant_hz) / 150) ** 2)) for formant_hz in formants_hz)
        voice += level * np.sin(harmonic * phase)
    voice *= 0.5 + 0.5 * np.sin(2 * np.pi * 4 * time_s)
    return (0.3 * voice / np.abs(voice).max() + 0.003 * rng.normal(size=n_samples)).astype(np.float32)


@torch.inference_mode()
def test_labels_are_those_of_the_packages_own_engine(asset):
    from hama import ASRModel
    from hama.asr import ASRDecodeConfig

    samples = babble(599 * 160)  # an even number of feature frames, as ours needs
    engine = ASRModel(decode=ASRDecodeConfig(temperature=1.0, blank_bias=0.0))
    expected = np.array(engine.transcribe_waveform(samples, RATE_HZ).frame_token_ids)
    features = seed_features(asset, torch.from_numpy(samples))
    assert features.shape == (600, 80)
    found = build_seed(asset).eval()(features[None])[0]
    assert found.shape == (300, SEED_VOCAB)
    assert len(set(expected.tolist())) > 10
    assert (found.argmax(-1).numpy() == expected).mean() >= 0.995


@torch.inference_mode()
def test_fewer_outputs_are_the_same_ones_renormalised(asset):
    index = label_index(seed_labels())
    features = seed_features(asset, torch.from_numpy(babble(99 * 160)))
    everything, ours = (build_seed(asset, keep).eval()(features[None]) for keep in (None, index))
    assert ours.shape[-1] == len(PHONEMES)
    assert torch.allclose(ours, torch.log_softmax(everything[..., index], -1), atol=1e-5)


def test_our_phonemes_have_their_labels(asset):
    labels = seed_labels()
    assert len(labels) == SEED_VOCAB
    found = [labels[position] for position in label_index(labels)]
    renamed = {theirs: ours for theirs, ours in zip(found, PHONEMES, strict=True) if theirs != ours}
    assert renamed == {"<blank>": "<blk>", "g": "ɡ"}
    assert len(set(found)) == len(PHONEMES)


@torch.inference_mode()
def test_teacher_gives_a_row_every_20_ms(asset):
    from asr.train.teacher import SeedTeacher

    teacher = SeedTeacher()
    log_probs = teacher(babble(99 * 160))
    assert log_probs.shape == (50, len(PHONEMES))
    assert np.allclose(np.exp(log_probs).sum(-1), 1, atol=1e-4)
    assert teacher(np.zeros(200, np.float32)).shape == (0, len(PHONEMES))


def random_map(rng):
    return rng.normal(0, 0.1, (160, 80)).astype(np.float32), rng.normal(size=80).astype(np.float32)


def with_frame_before(features):
    """Rows [frame t-1, frame t] of features (T, 80) for t = 1 .. T-1."""
    return np.concatenate([features[:-1], features[1:]], 1)


def test_a_linear_map_is_recovered(rng):
    expected_map, expected_bias = random_map(rng)
    ours = with_frame_before(rng.normal(-7, 4, (4000, 80)).astype(np.float32))
    theirs = ours @ expected_map + expected_bias + rng.normal(0, 0.1, (len(ours), 80)).astype(np.float32)
    found_map, found_bias = fit_feature_map(ours, theirs)
    assert (found_map.shape, found_map.dtype) == ((160, 80), np.float32)
    assert (found_bias.shape, found_bias.dtype) == ((80,), np.float32)
    assert np.abs(found_map - expected_map).max() < 0.005
    assert np.abs(found_bias - expected_bias).max() < 0.5  # far from the features' mean, so less certain
    assert np.abs(ours @ found_map + found_bias - (ours @ expected_map + expected_bias)).max() < 0.1


@torch.inference_mode()
def test_moving_the_frontend_changes_no_output(rng):
    torch.manual_seed(0)
    model = AcousticModel(EncoderConfig(d_model=24, n_layers=0)).eval()  # without blocks a frame sees no other one
    model.frontend.linear.weight[:, :80] = 0  # the frame that the seed does not look at
    weight = model.frontend.linear.weight.clone()
    feature_map, bias = random_map(rng)
    ours = rng.normal(-7, 4, (40, 80)).astype(np.float32)
    theirs = np.concatenate([np.zeros((1, 80), np.float32), with_frame_before(ours) @ feature_map + bias])
    moved = move_frontend(model, feature_map, bias)
    expected, found = (m(torch.from_numpy(x)[None])[0, 1:] for m, x in ((model, theirs), (moved, ours)))
    assert expected.std(0).mean() > 0.1
    assert torch.allclose(expected, found, atol=1e-4)
    assert torch.equal(model.frontend.linear.weight, weight)
