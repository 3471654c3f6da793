import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr.bundle import Bundle  # noqa: E402
from asr.train.cli import main  # noqa: E402
from asr.train.crf import END, START, PhoneTrigram, crf_loss, log_partition  # noqa: E402
from lm.lexicon import Lexicon  # noqa: E402
from lm.phones import BLANK_ID, BOUNDARY_ID, PHONEMES  # noqa: E402

V = 4


@pytest.fixture
def trigram():
    probs = np.random.default_rng(0).dirichlet(np.ones(V), (V, V))
    return PhoneTrigram(torch.from_numpy(probs.astype(np.float32)))


def random_frames(n_clips, n_frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.log_softmax(2 * torch.randn(n_clips, n_frames, V, generator=generator), -1)


def collapse(path):
    return [label for label, _ in itertools.groupby(path) if label]


@pytest.mark.parametrize("n_frames", [1, 2, 5])
def test_partition_is_the_sum_over_all_paths(trigram, n_frames):
    frames = random_frames(1, n_frames)
    total = -math.inf
    for path in itertools.product(range(V), repeat=n_frames):
        heard = sum(float(frames[0, t, label]) for t, label in enumerate(path))
        total = np.logaddexp(total, heard + trigram.log_prob(collapse(path)))
    assert log_partition(frames, torch.tensor([n_frames]), trigram).item() == pytest.approx(total, abs=1e-4)


def test_transcripts_share_out_the_partition(trigram):
    """Over all transcripts that four frames can bear, the shares sum to one."""
    frames, share = random_frames(1, 4), 0.0
    for length in range(5):
        for labels in itertools.product(range(1, V), repeat=length):
            if length + sum(a == b for a, b in itertools.pairwise(labels)) > 4:
                continue
            target = torch.tensor(labels, dtype=torch.int64)
            loss = crf_loss(frames, torch.tensor([4]), target, torch.tensor([length]), trigram)
            share += math.exp(-loss.item())
    assert share == pytest.approx(1.0, abs=1e-4)


def test_what_follows_a_clip_does_not_matter(trigram):
    frames = random_frames(2, 7)
    lens = torch.tensor([7, 4])
    changed = frames.clone()
    changed[1, 4:] = random_frames(1, 3, seed=5)[0]
    assert torch.allclose(log_partition(frames, lens, trigram), log_partition(changed, lens, trigram))
    alone = log_partition(frames[1:, :4], torch.tensor([4]), trigram)
    assert log_partition(frames, lens, trigram)[1].item() == pytest.approx(alone.item(), abs=1e-5)


def test_gradient_is_that_of_finite_differences(trigram):
    logits = torch.randn(1, 5, V, dtype=torch.float64, requires_grad=True)
    exact = PhoneTrigram(trigram.probs.double())

    def loss(values):
        frames = torch.log_softmax(values, -1)
        return crf_loss(frames, torch.tensor([5]), torch.tensor([1, 3]), torch.tensor([2]), exact)

    assert torch.autograd.gradcheck(loss, (logits,), atol=1e-6)


def test_long_clips_do_not_underflow(trigram):
    frames = torch.log_softmax(4 * torch.randn(1, 800, V, generator=torch.Generator().manual_seed(1)), -1)
    frames.requires_grad_()
    found = log_partition(frames, torch.tensor([800]), trigram)
    found.backward()
    log_weights = {(START, START, False): 0.0}  # of (older label, last label, whether it was emitted now)
    log_trigram = trigram.probs.double().log().tolist()
    for row in frames[0].detach().double().tolist():
        after = {}
        for (older, last, emitted), weight in log_weights.items():
            moves = [((older, last, False), row[BLANK_ID])] + [((older, last, True), row[last])] * emitted
            for label in range(1, V):
                if not (emitted and label == last):
                    moves.append(((last, label, True), row[label] + log_trigram[older][last][label]))
            for state, gain in moves:
                after[state] = np.logaddexp(after.get(state, -np.inf), weight + gain)
        log_weights = after
    total = np.logaddexp.reduce([w + log_trigram[o][last][END] for (o, last, _), w in log_weights.items()])
    assert found.item() == pytest.approx(float(total), rel=1e-4)
    assert torch.allclose(frames.grad.sum(-1), torch.ones(1, 800), atol=1e-4)


def test_estimate_is_smoothed_and_sums_to_one(tmp_path):
    trigram = PhoneTrigram.estimate([[1, 2], [1, 2], [1, 3]], V, strength=0.5)
    assert torch.allclose(trigram.probs.sum(-1), torch.ones(V, V))
    assert trigram.probs[0, 1, 2] > trigram.probs[0, 1, 3] > trigram.probs[0, 1, 1] > 0
    lowest = (np.bincount([0, 0, 0, 1, 1, 1, 2, 2, 3], minlength=V) + 0.5 / V) / 9.5
    assert trigram.probs[3, 3].numpy() == pytest.approx((0.5 * (0.5 * lowest + [1, 0, 0, 0]) / 1.5 + 0) / 0.5, abs=1e-4)
    trigram.write(tmp_path / "trigram.npy")
    assert torch.equal(PhoneTrigram.read(tmp_path / "trigram.npy").probs, trigram.probs)
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ValueError, match="expected a phoneme trigram"):
        PhoneTrigram.read(tmp_path / "text.npy")


def test_silence_gets_its_share(trigram):
    silent = trigram.with_silence(0.25)
    assert silent.log_prob([]) == pytest.approx(math.log(0.25))
    assert torch.allclose(silent.probs.sum(-1), trigram.probs.sum(-1))
    assert silent.probs[0, 0, 2] / silent.probs[0, 0, 3] == pytest.approx(
        float(trigram.probs[0, 0, 2] / trigram.probs[0, 0, 3]), rel=1e-5
    )
    assert torch.equal(silent.probs[1:], trigram.probs[1:])


def test_trigram_command_reads_targets_and_text(tmp_path):
    (tmp_path / "targets.json").write_text('{"a.wav": [5, 6, 7]}')
    (tmp_path / "text.txt").write_text("The cat sat.\nxqzzyv unknownword\nThe dog sat.\n")
    command = ["trigram", "--targets", str(tmp_path / "targets.json"), "--text", str(tmp_path / "text.txt")]
    assert main([*command, "--out", str(tmp_path / "phones.npy")]) == 0
    found = PhoneTrigram.read(tmp_path / "phones.npy")
    lexicon = Lexicon.open(Bundle.open(None).file("lexicon.bin"))
    sat = lexicon.pronunciations(lexicon.find("sat"))[0][0]
    assert found.probs.shape == (len(PHONEMES),) * 3
    assert found.probs[BOUNDARY_ID, sat[0], sat[1]] > 10 / len(PHONEMES)
    assert found.probs[5, 6, 7] > 5 / len(PHONEMES)
    assert main([*command[:-1], str(tmp_path / "none.txt"), "--out", str(tmp_path / "x.npy")]) == 2


def test_clips_too_short_for_their_transcripts_teach_nothing(trigram):
    frames = random_frames(2, 3).requires_grad_()
    target = torch.tensor([1, 2, 3, 1, 2, 2, 2])
    loss = crf_loss(frames, torch.tensor([3, 3]), target, torch.tensor([5, 2]), trigram)
    loss.sum().backward()
    assert loss[0] == 0
    assert not frames.grad[0].any()
    assert loss[1] > 0
    assert frames.grad[1].any()


def test_gradients_of_clips_in_one_batch_are_those_of_each_alone(trigram):
    lens = torch.tensor([6, 3])
    together = random_frames(2, 6).requires_grad_()
    (log_partition(together, lens, trigram) * torch.tensor([1.0, 2.0])).sum().backward()
    assert not together.grad[1, 3:].any()
    for clip, (n_frames, weight) in enumerate(((6, 1.0), (3, 2.0))):
        alone = together[clip : clip + 1, :n_frames].detach().requires_grad_()
        log_partition(alone, torch.tensor([n_frames]), trigram).sum().backward()
        assert torch.allclose(together.grad[clip, :n_frames], weight * alone.grad[0], atol=1e-5)
