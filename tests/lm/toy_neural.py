"""A toy neural language model as it is at run time, its adapters and lexicon, for the tests that run one."""

from dataclasses import replace

import numpy as np
import torch

from export.language_model import write_language_model
from lm.lexicon_build import build_lexicon
from lm.neural import NeuralModel
from lm.train.checkpoint import TrainedModel
from lm.train.fofe import Adapter, AdapterConfig, LanguageModel
from lm.train.recipe import LanguageModelConfig
from lm.train.runtime import write_runtime_adapter
from lm.vocabulary import END_ID, SPECIAL_WORDS, START_ID

W, V = 60, 50  # words, and those with an embedding
WORDS = [*SPECIAL_WORDS, *(f"w{number}" for number in range(W - 3))]
CONFIG = LanguageModelConfig(vocabulary_size=V, context=6, window=2, dim=12, hidden=20, layers=2)


def make_trained(seed=0, **changes):
    torch.manual_seed(seed)
    model = LanguageModel(replace(CONFIG, **changes)).eval()
    with torch.no_grad():
        model.embedding.normal_(0.0, 0.5)
        model.bias.normal_(-3.0)
    share = np.log(np.full(W - V, 0.5 / (W - V), np.float32))
    return TrainedModel(model, tuple(WORDS), share)


def make_adapter(name="clinic", seed=5, rank=3, **changes):
    torch.manual_seed(seed)
    adapter = Adapter(AdapterConfig(name, rank, (0, 1, 2)), replace(CONFIG, **changes))
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0.0, 0.15)
    return adapter


def write_toy_model(folder):
    """A model, two adapters and a lexicon."""
    write_language_model(make_trained(), folder)
    rng = np.random.default_rng(1)
    for number, name in enumerate(("clinic", "court")):
        write_runtime_adapter(make_adapter(name, number), NeuralModel.open(folder / "lm.bin").trunk, folder)
    spoken = {word: {tuple(rng.choice(range(2, 12), rng.integers(1, 4)).tolist()): 0.0} for word in WORDS[3:]}
    build_lexicon(WORDS, spoken, -np.linspace(1, 5, W), folder / "lexicon.bin")


class BigramScorer:
    """Stands for an n-gram: random, and its state is the last word."""

    def __init__(self):
        logits = np.random.default_rng(3).normal(0, 2, (W, W))
        self.table = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)

    def start(self):
        return START_ID

    def step(self, state, word):
        return word, float(self.table[state, word])

    def finish(self, state):
        return float(self.table[state, END_ID])
