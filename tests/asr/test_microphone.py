"""The microphone with a stand-in for sounddevice, since a test machine has none."""

import logging
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from asr import microphone
from asr.errors import AudioError, MissingDependencyError


class PortAudioError(Exception):
    pass


def fake_sounddevice(monkeypatch, sent=(), fails_with=None):
    """Install a sounddevice whose input stream sends `sent`, (samples, has_overflow) pairs, as soon as it starts."""
    opened = SimpleNamespace(options=None, is_closed=False)

    class InputStream:
        def __init__(self, **options):
            if fails_with is not None:
                raise fails_with
            opened.options = options

        def start(self):
            for samples, has_overflow in sent:
                buffer = np.array(samples, np.float32)[:, None]
                opened.options["callback"](buffer, len(buffer), None, SimpleNamespace(input_overflow=has_overflow))
                buffer[:] = 99.0  # PortAudio uses its buffer again

        def close(self):
            opened.is_closed = True

    module = SimpleNamespace(InputStream=InputStream, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return opened


def test_blocks_arrive_in_order_and_the_device_is_closed(monkeypatch):
    opened = fake_sounddevice(monkeypatch, [([0.1, 0.2], False), ([0.3, 0.4], False)])
    blocks = microphone.microphone_blocks(8000, 0.25, device=3)
    np.testing.assert_array_equal(next(blocks), np.array([0.1, 0.2], np.float32))
    np.testing.assert_array_equal(next(blocks), np.array([0.3, 0.4], np.float32))
    wanted = {"samplerate": 8000, "blocksize": 2000, "device": 3, "channels": 1, "dtype": "float32"}
    assert wanted.items() <= opened.options.items()
    assert not opened.is_closed
    blocks.close()
    assert opened.is_closed


def test_losses_are_counted_and_logged(monkeypatch, caplog):
    n_sent = 105  # the queue holds ten seconds, 100 blocks
    fake_sounddevice(monkeypatch, [([0.0], index == 0) for index in range(n_sent)])
    blocks = microphone.microphone_blocks(block_s=0.1)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            next(blocks)
    blocks.close()
    assert [record.getMessage() for record in caplog.records] == [
        "audio lost: 6 blocks so far; the computer does not keep up"
    ]


def test_a_device_that_falls_silent(monkeypatch):
    opened = fake_sounddevice(monkeypatch)
    monkeypatch.setattr(microphone, "_SILENT_DEVICE_S", 0.01)
    with pytest.raises(AudioError, match="unplugged"):
        next(microphone.microphone_blocks())
    assert opened.is_closed


@pytest.mark.parametrize(
    "failure", [PortAudioError("Error querying device -1"), ValueError("No input device matching")]
)
def test_no_such_device(monkeypatch, failure):
    fake_sounddevice(monkeypatch, fails_with=failure)
    with pytest.raises(AudioError, match="sounddevice` lists the devices"):
        next(microphone.microphone_blocks())


def test_sounddevice_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingDependencyError, match=r"sottovoce\[mic\]"):
        next(microphone.microphone_blocks())


def test_portaudio_is_not_installed(monkeypatch, tmp_path):
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')\n")
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AudioError, match="install it"):
        next(microphone.microphone_blocks())
