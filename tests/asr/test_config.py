import json
import math

import pytest

from asr.config import DecodingConfig
from asr.errors import OptionError


def test_round_trip_through_json():
    config = DecodingConfig(beam_size=7, lm_weight=0.25, blank_skip_log_prob=0.0)
    assert DecodingConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_missing_keys_keep_their_defaults():
    assert DecodingConfig.from_dict({"beam_size": 9}) == DecodingConfig(beam_size=9)


def test_unknown_key_is_named_with_the_known_ones():
    with pytest.raises(OptionError, match="'beam_sise'.*known: beam_size"):
        DecodingConfig.from_dict({"beam_sise": 9})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("beam_size", 0), ("beam_size", 2.0), ("beam_size", True), ("stable_after_frames", -1),
        ("beam_threshold", -0.1), ("token_threshold", "9"), ("lm_weight", -1.0),
        ("lm_weight", math.nan), ("word_score", math.inf),
        ("boundary_skip_log_prob", 0.5), ("blank_skip_log_prob", 0.1), ("word_score", False),
        ("semiring", "viterbi"), ("semiring", 1),
    ],
)  # fmt: skip
def test_unusable_values_are_named(name, value):
    with pytest.raises(OptionError, match=f"^{name} is "):
        DecodingConfig.from_dict({name: value})
