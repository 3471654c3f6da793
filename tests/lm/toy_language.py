"""A toy language, its texts and recipe, for the tests of the neural language models."""

import contextlib

import numpy as np
import torch

from lm.corpus import CorpusReport, Exclusion
from lm.train.batches import unknown_log_share
from lm.train.checkpoint import TrainedModel
from lm.train.fofe import LanguageModel
from lm.train.recipe import LanguageModelConfig, OptimConfig, Recipe
from lm.train.tokens import TokenStore, write_tokens
from lm.train.trainer import Trainer
from lm.vocabulary import SPECIAL_WORDS

VERBS, ROOMS, RARE = ["open", "close", "paint", "clean"], ["kitchen", "hall", "cellar", "attic"], ["zebra", "yak"]
WORDS = [*SPECIAL_WORDS, "the", "please", "we", "saw", "a", *VERBS, *ROOMS, *RARE]
INDEX = {word: number for number, word in enumerate(WORDS)}
V = len(WORDS) - 2  # the rare ones have no embedding
MODEL = LanguageModelConfig(vocabulary_size=V, context=4, window=2, dim=8, hidden=16, layers=2, experts=2)


def command(rng):
    return f"please {rng.choice(VERBS)} the {rng.choice(ROOMS)}"


def story(rng):
    return f"we saw a {rng.choice(ROOMS)} " + " ".join(["we saw"] * rng.integers(0, 3))


def write_texts(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "text"
    files = {
        "assistant/commands": [command(rng) for _ in range(40)] + ["open the zebra", "open the unheard kitchen"],
        "templates/more": ["close the attic please", "paint the yak"],
        "dictation/stories": [story(rng) + " " + str(rng.integers(10, 1000)) for _ in range(300)],
        "heldout/assistant": [command(rng) for _ in range(8)],
        "heldout/dictation": [story(rng) for _ in range(20)],
    }
    for name, lines in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.txt").write_text("\n".join(lines))
    (tmp_path / "words.txt").write_text("".join(f"{word}\n" for word in WORDS))
    return folder


RECIPE = Recipe(
    batch_tokens=200, samples=V, average_last=2, weights={"assistant/commands": 2.0, "templates/more": 0.5,
    "dictation/stories": 1.0}, applications={"templates": "assistant"},
    dev={"assistant": "heldout/assistant", "dictation": "heldout/dictation"}, model=MODEL,
    optim=OptimConfig(learning_rate=0.01, row_learning_rate=0.3, warmup_steps=5, steps=30),
)  # fmt: skip


def write_store(tmp_path, text_dir):
    write_tokens(
        tmp_path / "tokens", WORDS, RECIPE.sources(text_dir), RECIPE.dev_sources(text_dir),
        application_of=RECIPE.application_of, exclusion=Exclusion([["paint", "the", "yak"]]), report=CorpusReport(),
    )  # fmt: skip
    return TokenStore.open(tmp_path / "tokens")


def train(run, store, recipe=RECIPE, stop_after=None):
    run.mkdir(exist_ok=True)
    trainer = Trainer(run, store, recipe)

    def on_step(step, figures):
        if step == stop_after:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        trainer.fit(on_step=on_step)
    return trainer


def some_trained(seed=0):
    torch.manual_seed(seed)
    counts = np.arange(len(WORDS), 0.0, -1.0)
    return TrainedModel(LanguageModel(MODEL), tuple(WORDS), unknown_log_share(counts, V))
