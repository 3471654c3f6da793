from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr.bundle import Bundle  # noqa: E402
from asr.train.mwer import Heard, Listener, expected_errors, mwer_loss  # noqa: E402
from asr.train.recipe import Recipe, RecipeError  # noqa: E402
from lm.lexicon import Lexicon  # noqa: E402
from lm.phones import BLANK_ID, BOUNDARY_ID, PHONEMES  # noqa: E402

V = 5
WAYS = [
    [((1, 2), 3, -0.5), ((1,), 0, -1.0), ((), 2, -2.0)],
    [],
    [((3, 4, 3), 1, 0.0), ((2,), 4, 0.2)],
    [((1,), 7, 0.0)],
]


def scores_of(log_probs, lens):
    """Score of each way: the sum over its alignments, and what a language model may have said."""
    return [
        [
            -torch.nn.functional.ctc_loss(
                log_probs[clip, : lens[clip], None], torch.tensor(phonemes, dtype=torch.int64)[None],
                torch.tensor([lens[clip]]), torch.tensor([len(phonemes)]), reduction="sum",
            )
            + language
            for phonemes, _, language in ways
        ]
        for clip, ways in enumerate(WAYS)
    ]  # fmt: skip


def test_gradient_is_that_of_the_expected_errors():
    logits = torch.randn(4, 7, V, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    lens = torch.tensor([7, 3, 6, 5])
    scores = scores_of(logits.log_softmax(-1), lens.tolist())
    expected = sum(
        (torch.softmax(torch.stack(of_clip), 0) * torch.tensor([float(errors) for _, errors, _ in ways])).sum()
        for of_clip, ways in zip(scores, WAYS, strict=True)
        if ways
    )
    (wanted,) = torch.autograd.grad(expected, logits)
    heard = [
        [Heard(phonemes, errors, score.item()) for (phonemes, errors, _), score in zip(ways, of_clip, strict=True)]
        for ways, of_clip in zip(WAYS, scores, strict=True)
    ]
    assert expected_errors(heard) == pytest.approx(expected.item(), rel=1e-5)
    (found,) = torch.autograd.grad(mwer_loss(logits.log_softmax(-1), lens, heard), logits)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert not found[1].any()
    assert not found[3].any()  # one way only: there is nothing to choose


def test_nothing_heard_costs_nothing():
    log_probs = torch.zeros(1, 3, V, requires_grad=True)
    assert mwer_loss(log_probs, torch.tensor([3]), [[]]).item() == 0
    assert expected_errors([[]]) == 0


@pytest.fixture(scope="module")
def spoken():
    """Frames in which `play some music` is said clearly, and its phonemes."""
    lexicon = Lexicon.open(Bundle.open(None).file("lexicon.bin"))
    phonemes = []
    for word in ("play", "some", "music"):
        phonemes += [BOUNDARY_ID] * bool(phonemes) + list(lexicon.pronunciations(lexicon.find(word))[0][0])
    labels = [label for phoneme in phonemes for label in (BLANK_ID, phoneme, phoneme)] + [BLANK_ID] * 5
    frames = np.full((len(labels), len(PHONEMES)), 0.002, np.float32)
    frames[np.arange(len(labels)), labels] = 1
    return np.log(frames / frames.sum(1, keepdims=True)), tuple(phonemes)


def test_clear_speech_is_heard_first_without_an_error(spoken):
    frames, phonemes = spoken
    listener = Listener(None, n_ways=5, beam_size=32, n_threads=2)
    first, second = listener.hear([frames, frames], ["Play some music!", "stop"])
    assert 1 < len(first) <= 5
    assert (first[0].phonemes, first[0].errors) == (phonemes, 0)
    assert all(way.errors > 0 for way in first[1:])
    assert [way.score for way in first] == sorted((way.score for way in first), reverse=True)
    assert second[0].errors == 3


def test_scale_makes_ways_more_equal(spoken):
    frames, _ = spoken
    sharp, flat = (
        Listener(None, n_ways=5, beam_size=32, scale=scale).hear([frames], ["play some music"]) for scale in (1.0, 0.1)
    )
    assert [way.phonemes for way in sharp[0]] == [way.phonemes for way in flat[0]]
    assert expected_errors(sharp) < expected_errors(flat)


def test_recipes_say_how_many_ways_a_beam_can_have():
    with pytest.raises(RecipeError, match="expected 2 to 48"):
        replace(Recipe(), mwer_ways=49)
    with pytest.raises(RecipeError, match="must not be negative"):
        replace(Recipe(), mwer_weight=-1)
