"""Targets that run ONNX graphs: onnxruntime, its ORT format for mobile builds, sherpa-onnx.

The ORT format is made without folding constants: weights stay int8 in the file, a third of its size, and become floats
at each call, which costs a quarter more time.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx

from asr.bundle import Bundle
from asr.errors import BundleFileError
from export.ctc_graph import write_graph
from export.onnx_graph import set_metadata
from export.openfst import Transducer
from export.restrict import find_words, restrict
from export.targets.base import Target
from export.targets.description import FRAME_MS, PHONEME_LOOP, contract, describe_target
from lm.lexicon import Lexicon
from lm.ngram import NgramModel

MAX_BIGRAMS = 20_000
OPERATORS = "required_operators.config"
_RUNTIME = """import onnxruntime

session = onnxruntime.InferenceSession("{model}")
names = [node.name for node in session.get_inputs()]


def run(arrays):
    return session.run(None, dict(zip(names, arrays)))"""
_BUNDLE_CODE = """
The whole recogniser, words and all:

```python
import asr

print(asr.Recognizer("bundle", chunk_ms={chunk_ms}).transcribe("speech.wav").text)
```

The encoder alone, phonemes; its graph takes chunks of any size:
"""
_SHERPA_CODE = """
```python
import numpy as np
import sherpa_onnx
import soundfile

recognizer = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(tokens="tokens.txt", model="encoder.onnx"{graph})
samples, rate = soundfile.read("speech.wav", dtype="float32")
stream = recognizer.create_stream()
stream.accept_waveform(rate, samples)
stream.accept_waveform(rate, np.zeros(2 * rate, np.float32))  # what does not fill a window at the end is dropped
stream.input_finished()
while recognizer.is_ready(stream):
    recognizer.decode_stream(stream)
result = recognizer.get_result_all(stream)
{result}
```
"""
_SHERPA_WORDS = """words = open("words/words.txt", encoding="utf-8").read().splitlines()
print(*(words[word] for word in result.words))"""
_NO_LANGUAGE_MODEL = (
    "The language model is not in this folder: the weights of its graph lie in `lm.bin`, which the search reads as "
    "well, and ORT format has no data outside its file."
)


def write_onnx(bundle: Bundle, out: Path, chunk_ms: int) -> None:
    """Fill the folder `out` for onnxruntime in any language: the bundle as it is, whose graphs all are ONNX."""
    shutil.copytree(bundle.path, out / "bundle")
    model = "bundle/encoder.onnx"
    code = _BUNDLE_CODE.format(chunk_ms=chunk_ms) + PHONEME_LOOP.replace("{runtime}", _RUNTIME.format(model=model))
    describe_target(bundle, out, contract(bundle, chunk_ms), target="onnx", model=model, code=code)


def write_sherpa_onnx(
    bundle: Bundle, out: Path, chunk_ms: int, *, words: Sequence[str] = (), top: int = 0, max_bigrams: int = MAX_BIGRAMS
) -> None:
    """Fill the folder `out` for sherpa-onnx.

    Args:
        bundle: the model.
        out: existing folder.
        chunk_ms: chunk size.
        words: that a decoding graph knows; without any words the model gives phonemes alone.
        top: so many of the most frequent words are known too.
        max_bigrams: of the decoding graph.

    Raises:
        ValueError: a word is not in the bundle's lexicon.
    """
    graph, result = "", "print(result.text)  # phonemes; for words, export with --words or --top"
    if words or top:
        write_words_graph(bundle, words, out / "words", top=top, max_bigrams=max_bigrams)
        graph, result = ', ctc_graph="words/graph.fst"', _SHERPA_WORDS
    restamp(bundle.file("encoder.onnx"), out / "encoder.onnx", chunk_ms)
    code = _SHERPA_CODE.format(graph=graph, result=result)
    notes = ["Time stamps of sherpa-onnx read double: it takes frames to be 40 ms long, and these are 20 ms."]
    shapes = contract(bundle, chunk_ms)
    describe_target(bundle, out, shapes, target="sherpa-onnx", model="encoder.onnx", code=code, notes=notes)


def write_words_graph(
    bundle: Bundle, words: Sequence[str], out: Path, *, top: int = 0, max_bigrams: int = MAX_BIGRAMS
) -> Transducer:
    """Restrict a bundle's language to some words and write it as `graph.fst`, with their lexicon and n-gram.

    Raises:
        ValueError: a word is not in the bundle's lexicon.
    """
    lexicon, ngram = Lexicon.open(bundle.file("lexicon.bin")), NgramModel.open(bundle.file("ngram.bin"))
    restrict(lexicon, ngram, find_words(lexicon, words, top=top), out, max_bigrams=max_bigrams)
    small = Lexicon.open(out / "lexicon.bin")
    return write_graph(small, NgramModel.open(out / "ngram.bin"), bundle.manifest.decoding, out / "graph.fst")


def write_ort(bundle: Bundle, out: Path, chunk_ms: int) -> None:
    """Fill the folder `out` with the encoder in ORT format and the list of operators that a reduced build needs."""
    model = out / "encoder.ort"
    _convert(bundle.file("encoder.onnx"), model)
    _write_operators(model, out / OPERATORS)
    notes = [
        f"`{OPERATORS}` goes to onnxruntime's build (`--include_ops_by_config`, "
        "`--enable_reduced_operator_type_support`) for a library with these operators and types alone.",
        _NO_LANGUAGE_MODEL,
    ]
    code = PHONEME_LOOP.replace("{runtime}", _RUNTIME.format(model=model.name))
    describe_target(bundle, out, contract(bundle, chunk_ms), target="ort", model=model.name, code=code, notes=notes)


def restamp(source: str | Path, target: str | Path, chunk_ms: int) -> None:
    """Copy an encoder with another chunk size in its metadata, for runtimes that read it there.

    Raises:
        BundleFileError: `source` is not an encoder.
    """
    try:
        graph = onnx.load(str(source))
        found = {prop.key: prop.value for prop in graph.metadata_props}
        ahead = int(found["T"]) - int(found["decode_chunk_len"])
    except (KeyError, ValueError) as error:
        raise BundleFileError(f"{source}: expected an encoder that `asr-export` wrote: {error}") from None
    frames = chunk_ms // FRAME_MS
    set_metadata(graph, {"T": str(frames + ahead), "decode_chunk_len": str(frames)})
    onnx.save(graph, str(target))


def _convert(source: Path, target: Path) -> None:
    """The graph in ORT format; optimisations that only fit this machine's processor are left out."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.log_severity_level = 3
    ort.InferenceSession(str(source), options, ["CPUExecutionProvider"], disabled_optimizers=["ConstantFolding"])


def _write_operators(model: Path, target: Path) -> None:
    from onnxruntime.tools.ort_format_model import create_config_from_models

    before = logging.root.manager.disable
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # the tool leaves the file open
            create_config_from_models([model], target, enable_type_reduction=True)
    finally:
        logging.disable(before)
    lines = target.read_text(encoding="utf-8").splitlines()
    listed = [line for line in lines if line and not line.startswith("#")]  # the comment names folders of this machine
    target.write_text("\n".join([f"# made from {model.name}", *listed]) + "\n", encoding="utf-8")


ONNX = Target("onnx", "the bundle, for onnxruntime in any language", write_onnx)
ORT = Target("ort", "ORT format with its list of operators, for mobile builds of onnxruntime", write_ort)
SHERPA_ONNX = Target("sherpa-onnx", "for sherpa-onnx on Android, iOS, embedded Linux", write_sherpa_onnx)
