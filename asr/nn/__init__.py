"""The acoustic model in torch: network, streaming step, and the seed it starts from."""

from asr.nn.model import AcousticModel, EncoderConfig, EncoderState

__all__ = ["AcousticModel", "EncoderConfig", "EncoderState"]
