"""llguidance and outlines-core over patterns of written text: time to compile, and time of a state's allowed tokens."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from statistics import median
from time import thread_time as clock  # a busy machine does not matter to it
from typing import Any

import numpy as np

Sources = Sequence[tuple[str, Sequence[str]]]
"""Patterns, each with texts that it matches."""
_EOS = 0


class ByteWords:
    """A tokenizer of all bytes and some words; the longest token that fits is taken."""

    eos_token_id = _EOS
    bos_token_id = None

    def __init__(self, words: Sequence[str]) -> None:
        """Take the words."""
        single = {bytes([value]): None for value in range(256)}
        self.tokens = [b"<eos>", *single, *(word.encode() for word in words if word.encode() not in single)]
        self._ids = {token: number for number, token in enumerate(self.tokens)}
        self._longest = max(map(len, self.tokens))

    def __call__(self, text: str | bytes) -> list[int]:
        """Token ids."""
        rest = text.encode() if isinstance(text, str) else text
        found = []
        while rest:
            length = next(n for n in range(self._longest, 0, -1) if rest[:n] in self._ids)
            found.append(self._ids[rest[:length]])
            rest = rest[length:]
        return found


def measure_llguidance(sources: Sources, words: Sequence[str]) -> dict[str, Any]:
    """`LLMatcher`: construction, then the mask after every token of every text, and once more."""
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

    tokenizer = ByteWords(words)
    native = LLTokenizer(TokenizerWrapper(tokenizer), slices=[])
    compile_s, first_s, again_s, failed = list[float](), list[float](), list[float](), list[str]()
    for pattern, texts in sources:
        started = clock()
        matcher = LLMatcher(native, LLMatcher.grammar_from_regex(pattern))
        compile_s.append(clock() - started)
        for text in texts:
            for times in (first_s, again_s):
                matcher.reset()
                for token in tokenizer(text):
                    started = clock()
                    matcher.compute_bitmask()
                    times.append(clock() - started)
                    if not matcher.consume_token(token):
                        failed.append(text)
                        break
        if matcher.is_error():
            failed.append(f"{pattern}: {matcher.get_error()}"[:200])
    return _figures("llguidance", tokenizer, compile_s, first_s, again_s, failed)


def measure_outlines(sources: Sources, words: Sequence[str]) -> dict[str, Any]:
    r"""`Index`: construction, which works out all states, then a state's tokens; `\d` is written `[0-9]` for it."""
    from outlines_core import Index, Vocabulary

    tokenizer = ByteWords(words)
    vocabulary = Vocabulary(_EOS, {token: [number] for number, token in enumerate(tokenizer.tokens) if number != _EOS})
    compile_s, first_s, again_s, failed = list[float](), list[float](), list[float](), list[str]()
    for pattern, texts in sources:
        started = clock()
        try:
            index = Index(_ascii_digits(pattern), vocabulary)
        except ValueError as error:
            failed.append(f"{pattern}: {error}"[:200])
            continue
        compile_s.append(clock() - started)
        for text in texts:
            state: int | None = index.get_initial_state()
            for token in tokenizer(text):
                for times in (first_s, again_s):
                    started = clock()
                    index.get_allowed_tokens(state)
                    times.append(clock() - started)
                state = index.get_next_state(state, token)
                if state is None:
                    failed.append(text)
                    break
    return _figures("outlines-core", tokenizer, compile_s, first_s, again_s, failed)


def _ascii_digits(pattern: str) -> str:
    r"""`\d` as a range of characters, in and out of classes."""
    parts, is_in_class = [], False
    at = 0
    while at < len(pattern):
        item = pattern[at : at + 2] if pattern[at] == "\\" else pattern[at]
        is_in_class = (is_in_class or item == "[") and item != "]"
        parts.append({"\\d": "0-9" if is_in_class else "[0-9]"}.get(item, item))
        at += len(item)
    return "".join(parts)


def _figures(
    package: str,
    tokenizer: ByteWords,
    compile_s: Sequence[float],
    first_s: Sequence[float],
    again_s: Sequence[float],
    failed: Sequence[str],
) -> dict[str, Any]:
    return {
        "version": importlib.metadata.version(package),
        "tokens": len(tokenizer.tokens),
        "compile_p50_ms": round(1e3 * median(compile_s), 3),
        "compile_max_ms": round(1e3 * max(compile_s), 3),
        "mask_first_time": spread_us(first_s),
        "mask_again": spread_us(again_s),
        "failed": len(failed),
        "failed_first": failed[:3],
    }


def spread_us(values_s: Sequence[float]) -> dict[str, float]:
    """Median and tail, in microseconds."""
    values = np.array(values_s) * 1e6
    p50, p99, p999 = np.percentile(values, [50, 99, 99.9])
    figures = {"p50_us": p50, "p99_us": p99, "p999_us": p999, "max_us": values.max()}
    return {"n": len(values), **{name: round(float(value), 3) for name, value in figures.items()}}
