"""Shares of words in e-mail addresses."""

import pytest

from lm.grammar.addresses import OTHER_PRONUNCIATIONS, address_shares


@pytest.mark.parametrize("words", [(), ("alpha",), ("dot", "at", "kilo", "mike")])
def test_shares_leave_something_for_all_other_words(words):
    shares = address_shares(words)
    assert set(words) <= set(shares)
    assert all(share > 0 for share in shares.values())
    assert 0.8 < sum(shares.values()) < 0.95


def test_symbols_and_providers_come_before_names_and_names_before_the_rest():
    shares = address_shares(("thousandth", "dot", "smith"))
    assert shares["dot"] > shares["gmail"] > shares["smith"]
    assert shares["thousandth"] == pytest.approx(0.04 / 3)
    assert shares["smith"] > address_shares(())["smith"]


def test_other_pronunciations_are_of_known_words():
    assert OTHER_PRONUNCIATIONS.keys() <= address_shares(()).keys()
