"""Live audio from the microphone, the source of `asr listen`; needs the extra `mic` (sounddevice, PortAudio)."""

from __future__ import annotations

import logging
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.errors import AudioError, MissingDependencyError
from asr.types import FloatArray, Seconds

_log = logging.getLogger(__name__)
_QUEUE_S = 10.0
_SILENT_DEVICE_S = 5.0


def microphone_blocks(
    sample_rate: int = 16_000, block_s: Seconds = 0.1, device: int | str | None = None
) -> Iterator[FloatArray]:
    """Record from a microphone until the caller stops iterating.

    Up to ten seconds wait in memory for a slow caller; what comes on top is lost, and each loss is logged as a warning.

    Args:
        sample_rate: rate to record at in Hz.
        block_s: length of a block in seconds.
        device: number or part of the name of the input device; None for the system's default.

    Yields:
        float32 (N,), mono, in [-1, 1].

    Raises:
        MissingDependencyError: sounddevice is not installed.
        AudioError: PortAudio is not installed, there is no such device, or it fails.
    """
    sounddevice = _import_sounddevice()
    block_samples = max(1, round(block_s * sample_rate))
    recording = _Recording(max(1, round(_QUEUE_S / block_s)))
    try:
        stream = sounddevice.InputStream(
            samplerate=sample_rate,
            blocksize=block_samples,
            device=device,
            channels=1,
            dtype="float32",
            callback=recording.on_audio,
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        which = "the default microphone" if device is None else f"microphone {device!r}"
        raise AudioError(
            f"cannot record from {which} at {sample_rate} Hz ({error}); "
            "`python -m sounddevice` lists the devices and their rates"
        ) from None
    try:
        while True:
            yield recording.next_block()
    finally:
        stream.close()


class _Recording:
    """The queue between PortAudio's thread, which must never wait, and the caller."""

    def __init__(self, max_blocks: int) -> None:
        self._blocks: queue.Queue[FloatArray] = queue.Queue(max_blocks)
        self._n_lost = 0
        self._n_reported = 0

    def on_audio(self, samples: npt.NDArray[np.float32], n_samples: int, time: Any, status: Any) -> None:
        """PortAudio's callback: float32 (N, 1), valid only during the call."""
        if status.input_overflow:
            self._n_lost += 1
        try:
            self._blocks.put_nowait(samples[:, 0].copy())
        except queue.Full:
            self._n_lost += 1

    def next_block(self) -> FloatArray:
        """Wait for the next block, and report blocks that were lost."""
        try:
            block = self._blocks.get(timeout=_SILENT_DEVICE_S)
        except queue.Empty:
            raise AudioError(
                f"the microphone has sent nothing for {_SILENT_DEVICE_S:g} s: is it unplugged or in use?"
            ) from None
        n_lost = self._n_lost
        if n_lost > self._n_reported:
            _log.warning("audio lost: %d blocks so far; the computer does not keep up", n_lost)
            self._n_reported = n_lost
        return block


def _import_sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise MissingDependencyError("sounddevice", "mic") from None
    except OSError as error:
        raise AudioError(
            f"the microphone needs PortAudio ({error}): install it, on Debian or Ubuntu `apt install libportaudio2`"
        ) from None
    return sounddevice
