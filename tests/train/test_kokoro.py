import io
import os
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from asr import Recognizer
from asr.errors import MissingDependencyError
from asr.train import espeak, kokoro
from asr.train.kokoro import MODEL_FILE, KokoroError, accent_of, assemble, list_voices, phoneme_ids, read_styles


class TestModelFolder:
    @pytest.fixture
    def parts(self, tmp_path, monkeypatch):
        """Packages that hold the four parts of a network."""
        for number, package in enumerate(kokoro.PART_PACKAGES):
            folder = tmp_path / "packages" / f"other_{package}"
            folder.mkdir(parents=True)
            (folder / "__init__.py").write_text("")
            (folder / "part.bin").write_bytes(bytes([number] * 3))
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))
        monkeypatch.setattr(kokoro, "PART_PACKAGES", tuple(f"other_{name}" for name in kokoro.PART_PACKAGES))

    @pytest.fixture
    def styles(self):
        return np.random.default_rng(3).standard_normal((510, 256)).astype("<f4")

    def test_is_put_together_from_packages(self, parts, styles, tmp_path):
        packed = tmp_path / "kokoro-js.tgz"
        with tarfile.open(packed, "w:gz") as file:
            for name in ("af_one.bin", "zf_other.bin", "bm_two.bin", "README.md"):
                info = tarfile.TarInfo(f"package/voices/{name}")
                info.size = styles.nbytes
                file.addfile(info, io.BytesIO(styles.tobytes()))
        assert assemble(tmp_path / "model", packed) == ["af_one", "bm_two"]
        assert (tmp_path / "model" / MODEL_FILE).read_bytes() == bytes([0] * 3 + [1] * 3 + [2] * 3 + [3] * 3)
        np.testing.assert_array_equal(read_styles(tmp_path / "model", "bm_two"), styles)
        assert assemble(tmp_path / "again", tmp_path / "model" / "voices") == ["af_one", "bm_two"]

    def test_needs_the_packages(self, tmp_path, monkeypatch):
        monkeypatch.setattr(kokoro, "PART_PACKAGES", ("no_such_package_1",))
        with pytest.raises(MissingDependencyError, match=r"no-such-package-1 .*sottovoce\[synth\]"):
            assemble(tmp_path / "model", tmp_path)

    def test_what_is_not_packed_voices(self, parts, tmp_path):
        (tmp_path / "voices.tgz").write_bytes(b"no archive")
        with pytest.raises(KokoroError, match=r"voices\.tgz: expected a folder or the \.tgz"):
            assemble(tmp_path / "model", tmp_path / "voices.tgz")
        (tmp_path / "none").mkdir()
        with pytest.raises(KokoroError, match="English voices"):
            assemble(tmp_path / "model", tmp_path / "none")

    def test_damaged_voice_and_network(self, tmp_path):
        (tmp_path / "voices").mkdir()
        (tmp_path / "voices" / "af_one.bin").write_bytes(b"1234")
        (tmp_path / MODEL_FILE).write_bytes(b"no network")
        with pytest.raises(KokoroError, match="expected 510 x 256 float32 values, found 1"):
            read_styles(tmp_path, "af_one")
        with pytest.raises(KokoroError, match="not a whole network"):
            kokoro.Kokoro(tmp_path)


class TestPhonemes:
    def test_ids_of_known_letters_only(self):
        assert phoneme_ids("hˈA→?") == [50, 156, 24, 6]

    def test_diphthongs_are_one_letter(self):
        assert (
            espeak.as_kokoro("sˈe^ɪ həlˈo^ʊ nˈa^ʊ bˈɔ^ɪ mˈa^ɪ t^ʃˈɜːt^ʃ", espeak.AMERICAN)
            == "sˈA həlˈO nˈW bˈY mˈI ʧˈɜɹʧ"
        )
        assert espeak.as_kokoro("həlˈə^ʊ ðe^ə bˈɜːd", espeak.BRITISH) == "həlˈQ ðɛː bˈɜːd"

    def test_espeak_is_an_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "espeakng_loader", None)
        espeak._espeak.cache_clear()
        with pytest.raises(MissingDependencyError, match=r"espeak-ng.*sottovoce\[synth\]"):
            espeak.phonemize("hello")

    def test_the_letter_and_the_article(self):
        pytest.importorskip("espeakng_loader")
        espeak._espeak.cache_clear()
        assert espeak.phonemize("A cat.") == "ˈA kˈæt."
        assert espeak.phonemize("a cat?", espeak.BRITISH) == "ə kˈæt?"


@pytest.mark.skipif("SOTTOVOCE_KOKORO" not in os.environ, reason="SOTTOVOCE_KOKORO names no model folder")
def test_the_real_voice_is_understood():
    folder = Path(os.environ["SOTTOVOCE_KOKORO"])
    voice = next(voice for voice in list_voices(folder) if voice.startswith("am"))
    speech = kokoro.Kokoro(folder).speak("the cat is on the table.", read_styles(folder, voice), 1.0, accent_of(voice))
    assert Recognizer().transcribe((speech, kokoro.SAMPLE_RATE_HZ)).text == "the cat is on the table"
