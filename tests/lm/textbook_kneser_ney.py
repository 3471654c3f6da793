"""Interpolated modified Kneser-Ney from the formulas of Chen and Goodman (1999), in dictionaries: slow and obvious."""

from collections import Counter, defaultdict

START, END = "<s>", "</s>"


class TextbookKneserNey:
    def __init__(self, sentences, vocabulary):
        self.predicted = [word for word in vocabulary if word != START]
        self.trigrams, self.bigrams, self.unigrams = Counter(), Counter(), Counter()
        starts = Counter()
        for sentence in sentences:
            words = [START, *sentence, END]
            starts[START, words[1]] += 1
            for gram in zip(words, words[1:], words[2:], strict=False):
                self.trigrams[gram] += 1
        before = defaultdict(set)
        for a, b, c in self.trigrams:
            before[b, c].add(a)
        self.bigrams.update({pair: len(words) for pair, words in before.items()})
        self.bigrams.update(starts)
        for _, c in self.bigrams:
            self.unigrams[(c,)] += 1
        self.discounts = {n: self._discounts(t) for n, t in enumerate((self.unigrams, self.bigrams, self.trigrams), 1)}

    @staticmethod
    def _discounts(table):
        n = {k: sum(1 for count in table.values() if count == k) for k in (1, 2, 3, 4)}
        if not all(n.values()):
            return (0.5, 1.0, 1.5)
        y = n[1] / (n[1] + 2 * n[2])
        values = tuple(k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3))
        return values if all(0 < d < k for k, d in enumerate(values, 1)) else (0.5, 1.0, 1.5)

    def probability(self, word, context=()):
        table = {1: self.unigrams, 2: self.bigrams, 3: self.trigrams}[len(context) + 1]
        discounts = self.discounts[len(context) + 1]
        lower = 1 / len(self.predicted) if not context else self.probability(word, context[1:])
        followers = {gram: count for gram, count in table.items() if gram[:-1] == tuple(context)}
        total = sum(followers.values())
        if not total:
            return lower
        count = table.get((*context, word), 0)
        kept = max(count - discounts[min(count, 3) - 1], 0) if count else 0
        given = sum(discounts[min(c, 3) - 1] for c in followers.values())
        return kept / total + given / total * lower
