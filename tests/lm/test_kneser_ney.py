import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ngram_data import count_trigrams, make_sentences, make_words, small_estimate
from textbook_kneser_ney import TextbookKneserNey

from lm.backoff import LAST_WORD, WORD_BITS, pair_key
from lm.counts import TrigramCounter
from lm.kneser_ney import discounts, estimate
from lm.prune import drop_rare_words, prune

UTTERANCES = st.lists(st.sampled_from(make_words(5)[3:]), max_size=6)


def all_log_probs(model, contexts):
    """Log-probabilities (contexts, W) of every word after every context (a, b)."""
    words = np.arange(model.unigram_log_prob.size)
    rows = []
    for a, b in contexts:
        pair = pair_key(np.full(words.size, a), np.full(words.size, b))
        rows.append(model.trigram_log_probs((pair << WORD_BITS) | words.astype(np.uint64)))
    return np.array(rows)


def all_contexts(word_count):
    """(<s>, b) and (a, b) of real words, and the unknown word."""
    heads = [0, 1, *range(3, word_count)]
    tails = [0, 1, *range(3, word_count)]
    return list(itertools.product(heads, tails))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equals_the_textbook(seed):
    words, sentences, estimated = small_estimate(12, 150, seed)
    oracle = TextbookKneserNey(sentences, words)
    contexts = all_contexts(len(words))
    actual = np.exp(all_log_probs(estimated.model, contexts))
    for row, (a, b) in zip(actual, contexts, strict=True):
        expected = [0.0 if w == "<s>" else oracle.probability(w, (words[a], words[b])) for w in words]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-9)


def test_textbook_oracle_sums_to_one():
    words = make_words(10)
    oracle = TextbookKneserNey(make_sentences(words, 100, 5), words)
    for context in [(), (words[4],), (words[4], words[5]), ("<s>", words[3])]:
        assert sum(oracle.probability(w, context) for w in oracle.predicted) == pytest.approx(1)


@pytest.mark.parametrize("lower_order", ["continuation", "tokens", "average"])
@pytest.mark.parametrize("budget", [10**9, 300, 60, 7, 0])
def test_contexts_sum_to_one_after_pruning(lower_order, budget):
    words, _, estimated = small_estimate(25, 300, 4, lower_order)
    pruned = prune(drop_rare_words(estimated, len(words) - 5), budget=budget)
    sums = np.exp(all_log_probs(pruned.model, all_contexts(len(words)))).sum(axis=1)
    np.testing.assert_allclose(sums, 1, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(make_words(5)[3:]), max_size=6), st.sampled_from([0.2, 1.0, 3.5])),
        min_size=1,
    )
)
def test_any_weighted_text_sums_to_one(utterances):
    words = make_words(5)
    counter = TrigramCounter(words)
    for utterance, weight in utterances:
        counter.add(utterance, weight)
    model = estimate(counter.finish(), len(words)).model
    np.testing.assert_allclose(np.exp(all_log_probs(model, all_contexts(len(words)))).sum(axis=1), 1, atol=1e-4)


def test_scaling_all_weights_changes_nothing():
    words, sentences, once = small_estimate(20, 200, 6)
    scaled = estimate(count_trigrams(words, sentences, weight=0.25), len(words))
    np.testing.assert_allclose(scaled.model.trigram_log_prob, once.model.trigram_log_prob, rtol=1e-5)
    np.testing.assert_allclose(scaled.model.unigram_log_prob, once.model.unigram_log_prob, rtol=1e-5)


def test_heavier_source_wins():
    words = make_words(3)
    counter = TrigramCounter(words)
    counter.add([words[3], words[4]], 3.0)
    counter.add([words[3], words[5]], 1.0)
    row = all_log_probs(estimate(counter.finish(), len(words)).model, [(1, 3)])[0]
    assert row[4] > row[5]


def test_counts_do_not_depend_on_chunks():
    words = make_words(30)
    sentences = make_sentences(words, 500, 7)
    whole = count_trigrams(words, sentences)
    chunked = count_trigrams(words, sentences, chunk_tokens=50)
    np.testing.assert_array_equal(whole.key, chunked.key)
    np.testing.assert_array_equal(whole.raw, chunked.raw)
    np.testing.assert_allclose(whole.weighted, chunked.weighted)


def test_counts_of_a_worked_example():
    words = ["<unk>", "<s>", "</s>", "a", "b"]
    counts = count_trigrams(words, [["a", "b"], ["a", "zebra"]], weight=2.0)
    triples = [
        tuple(int(x) for x in (k >> np.uint64(42), (k >> WORD_BITS) & LAST_WORD, k & LAST_WORD)) for k in counts.key
    ]
    expected = {(1, 1, 3): 2, (1, 3, 4): 1, (3, 4, 2): 1, (1, 3, 0): 1, (3, 0, 2): 1}
    assert dict(zip(triples, counts.raw.tolist(), strict=True)) == expected
    np.testing.assert_array_equal(counts.weighted, 2.0 * counts.raw)


def test_discounts_of_a_worked_example():
    raw = np.repeat([1, 2, 3, 4], [8, 4, 2, 1]).astype(np.uint32)
    y = 8 / (8 + 2 * 4)
    np.testing.assert_allclose(discounts(raw), [0, 1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2])
    np.testing.assert_allclose(discounts(raw[:5]), [0, 0.5, 1, 1.5])


def test_no_text_is_an_error():
    with pytest.raises(ValueError, match="no text"):
        estimate(TrigramCounter(make_words(3)).finish(), 6)
