"""Train the letter-to-phoneme network of lm/g2p.py on pronunciations, and export it to ONNX.

    python -m lm.train.g2p --cmudict cmudict.dict --pronunciations hama.tsv --out g2p.onnx

Each letter is given `FRAMES_PER_LETTER` output frames, trained with CTC: letters and phonemes need no alignment. A
batch has words of one length, so nothing is padded. Where TSV files (the label habits of the acoustic network) list a
word, its variants there are drawn more often than the dictionary's.
"""

from __future__ import annotations

import argparse
import logging
import random
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.g2p import ALPHABET, G2P, encode_letters, is_spellable
from lm.phones import BLANK_ID, PHONEMES
from lm.pronunciations import Pronunciation, Variant, read_cmudict, read_tsv

logger = logging.getLogger(__name__)

FRAMES_PER_LETTER = 3
HABIT_SHARE = 0.7
Targets = Mapping[str, Sequence[tuple[Pronunciation, float]]]


@dataclass(frozen=True, slots=True)
class G2PConfig:
    """Size and training of the network."""

    d_model: int = 96
    layers: int = 4
    kernel_size: int = 5
    dropout: float = 0.1
    epochs: int = 3
    batch_size: int = 64
    peak_learning_rate: float = 4e-3
    weight_decay: float = 0.01
    seed: int = 0


class GatedConvolution(nn.Module):
    """Residual convolution over letters with a gated linear unit (Dauphin et al., arXiv:1612.08083)."""

    def __init__(self, config: G2PConfig) -> None:
        super().__init__()
        self.kernel_size = config.kernel_size
        self.norm = nn.LayerNorm(config.d_model)
        self.linear = nn.Linear(config.kernel_size * config.d_model, 2 * config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        reach = self.kernel_size // 2
        padded = F.pad(self.norm(x), (0, 0, reach, reach))
        # A matrix product over shifted copies: several times faster on a CPU than a convolution of these sizes.
        shifts = [padded[:, i : (i + 1 - self.kernel_size) or None] for i in range(self.kernel_size)]
        windows = torch.cat(shifts, dim=-1)  # (B, L, K * D)
        gated: Tensor = self.dropout(F.glu(self.linear(windows), dim=-1))
        return x + gated


class G2PNetwork(nn.Module):
    """Letters (B, L) to phoneme log-probabilities (B, FRAMES_PER_LETTER * L, V)."""

    def __init__(self, config: G2PConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(ALPHABET), config.d_model)
        self.layers = nn.Sequential(*(GatedConvolution(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.d_model)
        self.output = nn.Linear(config.d_model, FRAMES_PER_LETTER * len(PHONEMES))

    def forward(self, letters: Tensor) -> Tensor:
        """Letter ids (B, L) int64 -> natural log-probabilities (B, FRAMES_PER_LETTER * L, V)."""
        logits: Tensor = self.output(self.norm(self.layers(self.embedding(letters))))
        frames = logits.reshape(letters.shape[0], FRAMES_PER_LETTER * letters.shape[1], len(PHONEMES))
        return frames.log_softmax(-1)


def training_targets(dictionary: Sequence[Variant], habits: Sequence[Variant]) -> Targets:
    """Word -> (pronunciation, chance of being drawn); words that cannot be spelt, or fit no CTC path, are left out."""
    by_word: defaultdict[str, dict[Pronunciation, float]] = defaultdict(dict)
    habit_words = {variant.word for variant in habits}
    for variants, share in ((dictionary, 1 - HABIT_SHARE), (habits, HABIT_SHARE)):
        grouped: defaultdict[str, list[Pronunciation]] = defaultdict(list)
        for variant in variants:
            if is_spellable(variant.word) and _fits(variant.word, variant.phonemes):
                grouped[variant.word].append(variant.phonemes)
        for word, spoken in grouped.items():
            for phonemes in spoken:
                weight = (share if word in habit_words else 1.0) / len(spoken)
                by_word[word][phonemes] = by_word[word].get(phonemes, 0.0) + weight
    return {word: list(spoken.items()) for word, spoken in by_word.items()}


def _fits(word: str, phonemes: Pronunciation) -> bool:
    repeats = sum(a == b for a, b in zip(phonemes, phonemes[1:], strict=False))
    return len(phonemes) + repeats <= FRAMES_PER_LETTER * len(word)


def train(targets: Targets, config: G2PConfig) -> G2PNetwork:
    """Train a network from scratch; the same targets and config give the same network."""
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    network = G2PNetwork(config)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=config.weight_decay)
    steps = config.epochs * sum(1 for _ in _batches(targets, config.batch_size, rng))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.peak_learning_rate, total_steps=steps, pct_start=0.15
    )
    for epoch in range(config.epochs):
        start, total, count = time.perf_counter(), 0.0, 0
        network.train()
        for words, spoken in _batches(targets, config.batch_size, rng):
            loss = _ctc_loss(network(torch.from_numpy(encode_letters(words))), spoken)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total, count = total + loss.item() * len(words), count + len(words)
        logger.info("epoch %d: loss %.3f a word, %.0f s", epoch + 1, total / count, time.perf_counter() - start)
    return network.eval()


def _batches(targets: Targets, batch_size: int, rng: random.Random) -> Iterator[tuple[list[str], list[Pronunciation]]]:
    """One epoch: every word once, with one of its pronunciations, in batches of words of one length, shuffled."""
    by_length: defaultdict[int, list[str]] = defaultdict(list)
    for word in targets:
        by_length[len(word)].append(word)
    batches = []
    for words in by_length.values():
        rng.shuffle(words)
        batches += [words[i : i + batch_size] for i in range(0, len(words), batch_size)]
    rng.shuffle(batches)
    for words in batches:
        yield words, [rng.choices(*zip(*targets[word], strict=True))[0] for word in words]


def _ctc_loss(log_probs: Tensor, spoken: Sequence[Pronunciation]) -> Tensor:
    """Mean over words of -log P(pronunciation | letters); log_probs (B, T, V)."""
    B, T, _ = log_probs.shape
    labels = torch.tensor([phoneme for phonemes in spoken for phoneme in phonemes])
    label_lens = torch.tensor([len(phonemes) for phonemes in spoken])
    lens = torch.full((B,), T)
    return F.ctc_loss(log_probs.transpose(0, 1), labels, lens, label_lens, blank=BLANK_ID, reduction="sum") / B


def export_g2p(network: G2PNetwork, path: str | Path) -> None:
    """Write the network as ONNX (opset 17, any number of words and letters) with matrices in int8, a scale a column."""
    import onnx

    example = torch.from_numpy(encode_letters(["export", "import"]))
    axes = {"letters": {0: "words", 1: "letters"}, "log_probs": {0: "words", 1: "frames"}}
    with warnings.catch_warnings():  # of the newer exporter, which needs one more package, and of paddings not folded
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), (example,), str(path), input_names=["letters"], output_names=["log_probs"],
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip
    model = onnx.load(str(path))
    _quantize_matrices(model)
    for key, value in (("alphabet", ALPHABET), ("phonemes", " ".join(PHONEMES))):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _quantize_matrices(model: Any) -> None:
    """Store every float matrix of an ONNX model as int8, dequantized when the model is loaded."""
    from onnx import helper, numpy_helper

    graph = model.graph
    for tensor in list(graph.initializer):
        matrix = numpy_helper.to_array(tensor)
        if matrix.ndim != 2 or matrix.dtype != np.float32:
            continue
        scale = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / 127
        name = tensor.name
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(np.rint(matrix / scale).astype(np.int8), f"{name}_int8"))
        graph.initializer.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}_scale"))
        inputs = [f"{name}_int8", f"{name}_scale"]
        graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], axis=1))


def evaluate(g2p: G2P, references: Mapping[str, Sequence[Pronunciation]]) -> tuple[float, float]:
    """Phoneme error rate and word accuracy of the best pronunciation, against the nearest reference of each word."""
    errors = phonemes = right = 0
    for spoken, best in zip(references.values(), g2p.pronounce_many(references), strict=True):
        distance, length = min((_edit_distance(best[0][0], reference), len(reference)) for reference in spoken)
        errors, phonemes, right = errors + distance, phonemes + length, right + (distance == 0)
    return errors / phonemes, right / len(references)


def _edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
    return row[-1]


def main() -> None:
    """Train, export, and report on words held out from the dictionary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cmudict", type=Path, required=True, help="dictionary in CMUdict format")
    parser.add_argument("--pronunciations", type=Path, nargs="*", default=[], help="TSV files of label habits")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    parser.add_argument("--epochs", type=int, default=G2PConfig().epochs)
    parser.add_argument("--held-out", type=int, default=2000, help="words kept for testing (default: %(default)s)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    dictionary = [variant for variant in read_cmudict(arguments.cmudict) if is_spellable(variant.word)]
    habits = [variant for path in arguments.pronunciations for variant in read_tsv(path)]
    config = G2PConfig(epochs=arguments.epochs)
    words = sorted({variant.word for variant in dictionary})
    held_out = set(random.Random(config.seed).sample(words, arguments.held_out))
    targets = training_targets(
        [variant for variant in dictionary if variant.word not in held_out],
        [variant for variant in habits if variant.word not in held_out],
    )
    logger.info("%d words, %d of them with label habits", len(targets), len({variant.word for variant in habits}))
    export_g2p(train(targets, config), arguments.out)

    references: defaultdict[str, list[Pronunciation]] = defaultdict(list)
    for variant in dictionary:
        if variant.word in held_out:
            references[variant.word].append(variant.phonemes)
    g2p = G2P.open(arguments.out)
    start = time.perf_counter()
    error_rate, accuracy = evaluate(g2p, references)
    microseconds = 1e6 * (time.perf_counter() - start) / len(references)
    size_bytes = arguments.out.stat().st_size
    print(f"PER {error_rate:.2%}, words right {accuracy:.1%}, {microseconds:.0f} us a word, {size_bytes} bytes")


if __name__ == "__main__":
    main()
