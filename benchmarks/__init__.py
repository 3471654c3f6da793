"""Measurements of the engine and of other offline recognisers, each in its own process: the command `asr-bench`."""
