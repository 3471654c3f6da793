import numpy as np
import pytest
from ngram_data import make_sentences, small_estimate

from lm.backoff import LAST_WORD, WORD_BITS, find, first_word, last_word
from lm.kneser_ney import Estimate
from lm.prune import _restrict, drop_rare_words, prune


def log_prob(model, words, sentences):
    """Natural log-probability of a text."""
    ids = {word: i for i, word in enumerate(words)}
    total = 0.0
    for sentence in sentences:
        numbers = [1, *(ids[w] for w in sentence), 2]
        pairs = np.array([numbers[0] << 21 | numbers[1]], np.uint64)
        total += float(model.bigram_log_probs(pairs)[0])
        triples = [a << 42 | b << 21 | c for a, b, c in zip(numbers, numbers[1:], numbers[2:], strict=False)]
        total += float(model.trigram_log_probs(np.array(triples, np.uint64)).sum())
    return total


def test_without_pressure_nothing_goes():
    _, _, full = small_estimate()
    kept = prune(full, budget=10**9).model
    np.testing.assert_array_equal(kept.trigram_key, full.model.trigram_key)
    np.testing.assert_allclose(kept.bigram_backoff, full.model.bigram_backoff, atol=1e-4)
    np.testing.assert_allclose(kept.unigram_backoff, full.model.unigram_backoff, atol=1e-4)


@pytest.mark.parametrize("budget", [0, 11, 100, 801])
def test_budget_is_kept_and_used(budget):
    _, _, full = small_estimate()
    model = prune(full, budget=budget, bigram_cost=8, trigram_cost=3).model
    cost = 8 * model.bigram_key.size + 3 * model.trigram_key.size
    assert budget - 40 < cost <= budget


def test_contexts_of_trigrams_stay():
    _, _, full = small_estimate()
    model = prune(full, budget=800).model
    assert model.trigram_key.size
    assert (find(model.bigram_key, model.trigram_key >> WORD_BITS) >= 0).all()


def test_more_room_predicts_better():
    words, sentences, full = small_estimate(lower_order="tokens")
    likelihoods = [log_prob(prune(full, budget=b).model, words, sentences) for b in (0, 50, 200, 800)]
    assert likelihoods == sorted(likelihoods)


def test_prunes_better_than_chance():
    words, _, full = small_estimate(lower_order="tokens")
    held_out = make_sentences(words, 400, 1)[200:]
    model = prune(full, budget=200).model
    rng = np.random.default_rng(0)
    bigrams = np.zeros(full.model.bigram_key.size, bool)
    bigrams[rng.choice(bigrams.size, 200, replace=False)] = True
    by_chance = _restrict(full, bigrams, np.zeros(full.model.trigram_key.size, bool)).model
    assert log_prob(model, words, held_out) > log_prob(by_chance, words, held_out)


def test_least_worth_is_the_relative_entropy_of_a_model_without_it():
    """The estimate of what a trigram is worth equals the relative entropy computed over the whole vocabulary."""
    words, _, full = small_estimate(8, 60, 3)
    pruned = prune(full, budget=full.model.bigram_key.size + full.model.trigram_key.size - 1)
    model = pruned.model
    gone = np.setdiff1d(full.model.trigram_key, model.trigram_key)
    if gone.size != 1:
        pytest.skip("a bigram went, not a trigram")
    divergences = {int(key): divergence(full, key, len(words)) for key in full.model.trigram_key}
    assert int(gone[0]) == min(divergences, key=divergences.__getitem__)


def divergence(full: Estimate, key, word_count):
    without = _restrict(full, np.ones(full.model.bigram_key.size, bool), full.model.trigram_key != key).model
    context = int(key >> WORD_BITS)
    triples = np.array([context << 21 | w for w in range(word_count) if w != 1], np.uint64)
    p, q = (m.trigram_log_probs(triples).astype(float) for m in (full.model, without))
    return (
        full.bigram_context[find(full.model.bigram_key, np.array([context], np.uint64))[0]]
        * (np.exp(p) * (p - q)).sum()
    )


def test_rare_words_keep_unigrams_only():
    words, _, full = small_estimate()
    model = drop_rare_words(full, 20).model
    assert model.unigram_log_prob.size == len(words)
    assert max(first_word(model.bigram_key).max(), last_word(model.bigram_key).max()) < 20
    assert (model.trigram_key & LAST_WORD).max() < 20
    assert not (model.unigram_backoff[20:] != 0).any()
