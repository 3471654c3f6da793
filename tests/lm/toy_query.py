"""A toy language model to ask questions, over words for numbers, names and codes; of test_query*.py."""

import numpy as np
import torch

from export.language_model import write_language_model
from lm.cli import parse_args, run
from lm.neural import NeuralModel
from lm.train.checkpoint import TrainedModel
from lm.train.fofe import Adapter, AdapterConfig, LanguageModel
from lm.train.recipe import LanguageModelConfig
from lm.train.runtime import write_runtime_adapter
from lm.vocabulary import SPECIAL_WORDS

DIGITS = "zero one two three four five six seven eight nine oh double".split()
PLAIN = "my pin is call anna bob now please at dot the ten twenty eleven um nora".split()
WORDS = [*SPECIAL_WORDS, *DIGITS, *PLAIN]
W, V = len(WORDS), len(WORDS) - 2  # the last two have no embedding
IDS = {word: number for number, word in enumerate(WORDS)}
CONFIG = LanguageModelConfig(vocabulary_size=V, context=5, window=2, dim=12, hidden=20, layers=2)


def write_toy(folder):
    """Write a random model, an adapter and the word list."""
    torch.manual_seed(0)
    network = LanguageModel(CONFIG).eval()
    with torch.no_grad():
        network.embedding.normal_(0.0, 0.4)
        network.bias.normal_(-6.0, 0.5)
    share = np.log(np.full(W - V, 0.5 / (W - V), np.float32))
    write_language_model(TrainedModel(network, tuple(WORDS), share), folder)
    adapter = Adapter(AdapterConfig("clinic", 3, (0, 1, 2)), CONFIG)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0.0, 0.2)
    write_runtime_adapter(adapter, NeuralModel.open(folder / "lm.bin").trunk, folder)
    (folder / "words.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return folder


def ask(folder, *args):
    run(parse_args([args[0], *args[1:], "--trunk", str(folder), "--words", str(folder / "words.txt")]))
