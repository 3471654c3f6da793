"""Small made-up corpora: a random grammar gives bigrams and trigrams of all counts."""

import random

from lm.counts import TrigramCounter
from lm.kneser_ney import estimate

SPECIAL = ["<unk>", "<s>", "</s>"]


def make_words(count):
    return SPECIAL + [f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(count)]


def make_sentences(words, count, seed):
    rng = random.Random(seed)
    real = words[3:]
    follow = {word: rng.choices(real, k=4) for word in real}
    sentences = []
    for _ in range(count):
        sentence = [rng.choice(real)]
        while rng.random() < 0.8:
            sentence.append(rng.choice(follow[sentence[-1]] if rng.random() < 0.8 else real))
        sentences.append(sentence)
    return sentences


def count_trigrams(words, sentences, weight=1.0, **options):
    counter = TrigramCounter(words, **options)
    for sentence in sentences:
        counter.add(sentence, weight)
    return counter.finish()


def small_estimate(word_count=40, sentence_count=400, seed=1, lower_order="continuation"):
    words = make_words(word_count)
    sentences = make_sentences(words, sentence_count, seed)
    return words, sentences, estimate(count_trigrams(words, sentences), len(words), lower_order)
