"""Lists of phrases over a whole bundle, heard from synthetic speech."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from asr.biasing import Biasing
from asr.bundle import Bundle
from asr.errors import OptionError
from asr.language import Language
from lm.phrases import PhraseScorer, parse_phrases


@pytest.fixture(scope="module")
def language(tiny_bundle):
    return Language(Bundle.open(tiny_bundle))


def test_a_list_becomes_a_lexicon_and_a_scorer(language):
    entries = parse_phrases(["cat", ("Scott", "spot"), "xylophone"])
    biased = Biasing(language).biased(entries, None)
    assert biased.lexicon.word(len(language.lexicon)) == "scott"
    assert len(biased.lexicon) == len(language.lexicon) + 1
    assert isinstance(biased.scorer, PhraseScorer)
    ((text, reason),) = biased.unspeakable  # this bundle has no network that knows how letters are spoken
    assert text == "xylophone"
    assert "pronounced" in reason


def test_a_list_is_prepared_once_and_each_stream_has_a_scorer_of_its_own(language):
    biasing, entries = Biasing(language), parse_phrases(["cat", "spot"])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: biasing.biased(entries, None), range(16)))
    assert all(one.lexicon is found[0].lexicon for one in found)
    assert len({id(one.scorer) for one in found}) == len(found)
    for number in range(20):
        biasing.biased(parse_phrases([("cat", 1.0 + number / 10)]), None)
    again = biasing.biased(entries, None)  # forgotten by now
    assert again.lexicon is not found[0].lexicon
    assert np.array_equal(again.lexicon.node_label, found[0].lexicon.node_label)


def test_refuses_an_unknown_domain(language):
    with pytest.raises(OptionError, match="domain"):
        Biasing(language).biased([], "cooking")
