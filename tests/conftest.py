"""A bundle without a trained model: every phoneme is a pure tone, and the encoder a filter that tells the tones apart.

So words can be "spoken" exactly, and the whole engine runs end to end in milliseconds.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from hypothesis import settings
from onnx import TensorProto, helper, numpy_helper

from asr.bundle import Selftest
from asr.confidence import ConfidenceWeights
from asr.config import DecodingConfig
from asr.endpoint import EndpointConfig
from export.bundle import write_bundle
from lm.arrayfile import write_array_file
from lm.lexicon_build import build_lexicon
from lm.phones import BOUNDARY, PHONEME_ID, PHONEMES
from lm.vocabulary import words_sha256

settings.register_profile("project", deadline=None, max_examples=50)  # the machine may be busy: no time limits
settings.load_profile("project")

RATE_HZ = 16000
PHONE_S = 0.08
BOUNDARY_S = 0.06
SPOKEN = {
    "cat": "k æ t",
    "tack": "t æ k",
    "stop": "s t ɑ p",
    "spot": "s p ɑ t",
    "pin": "p ɪ n",
    "it's": "ɪ t s",
}
TONES = [BOUNDARY, "k", "æ", "t", "s", "p", "ɑ", "ɪ", "n"]
TONE_BINS = {symbol: 8 + 7 * index for index, symbol in enumerate(TONES)}
LEFT, WIDTH, KERNEL, VALUE = 4, 4, 4, 8
STATES = {  # name: shape; 0 stands for the batch
    "cached_key_0": [LEFT, 0, 1],
    "cached_nonlin_attn_0": [1, 0, LEFT, 3],
    "cached_val1_0": [LEFT, 0, VALUE],
    "cached_val2_0": [LEFT, 0, VALUE],
    "cached_conv1_0": [0, WIDTH, KERNEL // 2],
    "cached_conv2_0": [0, WIDTH, KERNEL // 2],
    "embed_states": [0, 128, 3, 19],
    "processed_lens": [0],
}
METADATA = {
    "encoder_dims": WIDTH, "query_head_dims": 1, "value_head_dims": VALUE, "num_heads": 1, "num_encoder_layers": 1,
    "cnn_module_kernels": KERNEL, "left_context_len": LEFT, "T": 64, "decode_chunk_len": 64,
}  # fmt: skip


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


def tone_hz(symbol):
    """Centre of the mel bin that stands for a phoneme."""
    low, high = (1127 * np.log1p(hz / 700) for hz in (20, 7600))
    return 700 * np.expm1((low + (high - low) * (TONE_BINS[symbol] + 1) / 81) / 1127)


@dataclass(frozen=True)
class Speech:
    """Synthetic speech and what is in it: (word, start, end) in seconds."""

    samples: np.ndarray
    spans: tuple

    @property
    def text(self):
        return " ".join(word for word, _, _ in self.spans)


def synthesize(text, *, pause_s=0.3, rate=RATE_HZ):
    """Speech for words, in which "|" is a second of silence more."""
    parts, spans, now = [], [], 0.0

    def add(seconds, symbol=None):
        nonlocal now
        times = np.arange(round(seconds * rate)) / rate
        parts.append(0.3 * np.sin(2 * np.pi * tone_hz(symbol) * times) if symbol else np.zeros(len(times)))
        now += len(times) / rate

    add(pause_s)
    for word in text.split():
        if word == "|":
            add(1.0)
            continue
        start = now
        for symbol in SPOKEN[word].split():
            add(PHONE_S, symbol)
        spans.append((word, start, now))
        add(BOUNDARY_S, BOUNDARY)
    add(pause_s)
    return Speech(np.concatenate(parts).astype(np.float32), tuple(spans))


@pytest.fixture(scope="session")
def speak():
    return synthesize


def tiny_encoder():
    """The graph: mean of this and the frame before (kept in `embed_states`), then one logit for each tone's bin."""
    projection, bias = np.zeros((80, len(PHONEMES)), np.float32), np.full(len(PHONEMES), -20, np.float32)
    bias[0] = 0.0
    for symbol, mel_bin in TONE_BINS.items():
        projection[mel_bin, PHONEME_ID[symbol]], bias[PHONEME_ID[symbol]] = 2.0, -4.0
    constants = {
        "projection": projection, "bias": bias, "half": np.float32(0.5), "one": np.int64(1),
        "pairs_shape": np.array([0, -1, 160]), "frame_shape": np.array([0, 1, 80]),
        "flat_shape": np.array([0, 7296]), "cache_shape": np.array([0, 128, 3, 19]),
        "zero": np.array([0]), "eighty": np.array([80]), "minus_one": np.array([-1]), "far": np.array([1 << 40]),
        "axis": np.array([1]), "two_axis": np.array([2]),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Reshape", ["x", "pairs_shape"], ["pairs"]),
        node("Slice", ["pairs", "zero", "eighty", "two_axis"], ["first"]),
        node("Slice", ["pairs", "eighty", "far", "two_axis"], ["second"]),
        node("Add", ["first", "second"], ["sum"]),
        node("Mul", ["sum", "half"], ["frames"]),
        node("Reshape", ["embed_states", "flat_shape"], ["flat"]),
        node("Slice", ["flat", "zero", "eighty", "axis"], ["kept"]),
        node("Slice", ["flat", "eighty", "far", "axis"], ["rest"]),
        node("Reshape", ["kept", "frame_shape"], ["before"]),
        node("Slice", ["frames", "zero", "minus_one", "axis"], ["earlier"]),
        node("Concat", ["before", "earlier"], ["delayed"], axis=1),
        node("Add", ["frames", "delayed"], ["both"]),
        node("Mul", ["both", "half"], ["mean"]),
        node("MatMul", ["mean", "projection"], ["projected"]),
        node("Add", ["projected", "bias"], ["logits"]),
        node("LogSoftmax", ["logits"], ["log_probs"], axis=-1),
        node("Slice", ["frames", "minus_one", "far", "axis"], ["last"]),
        node("Squeeze", ["last", "axis"], ["last_flat"]),
        node("Concat", ["last_flat", "rest"], ["new_flat"], axis=1),
        node("Reshape", ["new_flat", "cache_shape"], ["new_embed_states"]),
        node("Shape", ["frames"], ["frames_shape"]),
        node("Gather", ["frames_shape", "one"], ["n_frames"]),
        node("Add", ["processed_lens", "n_frames"], ["new_processed_lens"]),
    ]
    nodes += [node("Identity", [name], [f"new_{name}"]) for name in STATES if name.startswith("cached")]
    return _model(nodes, constants)


def _model(nodes, constants):
    def value(name, shape):
        kind = TensorProto.INT64 if name.endswith("processed_lens") else TensorProto.FLOAT
        return helper.make_tensor_value_info(name, kind, [size or "N" for size in shape])

    graph = helper.make_graph(
        nodes,
        "tiny",
        [value("x", [0, "T", 80]), *(value(name, shape) for name, shape in STATES.items())],
        [value("log_probs", [0, "U", len(PHONEMES)]), *(value(f"new_{name}", shape) for name, shape in STATES.items())],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(model, {key: str(number) for key, number in METADATA.items()})
    onnx.checker.check_model(model)
    return model


def write_tiny_language(folder):
    """`lexicon.bin` and `ngram.bin` of six equally likely words."""
    words = ["<unk>", "<s>", "</s>", *SPOKEN]
    log_probs = np.full(len(words), -np.log(len(SPOKEN) + 1), np.float32)
    pronunciations = {w: {tuple(PHONEME_ID[s] for s in spoken.split()): 0.0} for w, spoken in SPOKEN.items()}
    build_lexicon(words, pronunciations, log_probs, folder / "lexicon.bin")
    arrays = {
        "unigram_log_prob": log_probs.astype(np.float16),
        "unigram_backoff": np.zeros(len(words), np.float16),
        "bigram_first": np.zeros(len(words) + 1, np.uint32),
        "bigram_word": np.zeros(0, np.uint16),
        "bigram_log_prob": np.zeros(0, np.uint8),
        "bigram_backoff": np.zeros(0, np.uint8),
        "bigram_log_prob_table": np.zeros(256, np.float32),
        "bigram_backoff_table": np.zeros(256, np.float32),
        "trigram_first": np.zeros(1, np.uint32),
        "trigram_word": np.zeros(0, np.uint16),
        "trigram_log_prob": np.zeros(0, np.uint8),
        "trigram_log_prob_table": np.zeros(256, np.float32),
    }
    meta = {"order": 3, "words_sha256": words_sha256(words)}
    write_array_file(folder / "ngram.bin", kind="ngram", arrays=arrays, meta=meta)


def write_tiny_bundle(out_dir, parts, **changes):
    """The tiny bundle, with other arguments to `write_bundle` where wanted."""
    speech = synthesize("stop spot it's pin")
    soundfile.write(parts / "selftest.flac", speech.samples, RATE_HZ)
    onnx.save(tiny_encoder(), parts / "encoder.onnx")
    write_tiny_language(parts)
    arguments = {
        "name": "tiny",
        "language": "en",
        "files": {name: parts / name for name in ("encoder.onnx", "lexicon.bin", "ngram.bin", "selftest.flac")},
        "readme": "# tiny\nTones for phonemes.\n",
        "selftest": Selftest("selftest.flac", speech.text),
        "decoding": DecodingConfig(),
        "confidence": ConfidenceWeights(bias=3.0, acoustic_per_frame=4.0, acoustic=0.0, language=0.1, log_frames=0.0),
        "endpoint": EndpointConfig(),
        "quantization": {},
        "provenance": {"data": "none"},
        "license": "Apache-2.0",
    }
    return write_bundle(out_dir, **{**arguments, **changes}).path


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """Folder of the tiny bundle; shared, so do not change it."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny", tmp_path_factory.mktemp("parts"))


@pytest.fixture
def make_bundle(tmp_path):
    """Function that writes a tiny bundle with changed arguments and returns its folder."""

    def make(**changes):
        parts = tmp_path / "parts"
        parts.mkdir(exist_ok=True)
        return write_tiny_bundle(tmp_path / "made", parts, **changes)

    return make


@pytest.fixture
def edit_manifest():
    """Function that lets another one change a bundle's manifest, as parsed JSON."""

    def edit(folder, change):
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text(encoding="utf-8"))
        change(manifest)
        path.write_text(json.dumps(manifest), encoding="utf-8")

    return edit
