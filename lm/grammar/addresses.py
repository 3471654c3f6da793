"""What e-mail addresses are made of, in places where any word may be said: a model of sentences expects none of it."""

from __future__ import annotations

from collections.abc import Collection

from lm.phones import arpabet_to_ids

_PARTS: tuple[tuple[float, str], ...] = (
    (0.25, "dot at underscore dash hyphen com org net edu"),
    (0.06, "zero one two three four five six seven eight nine oh"),
    (0.22, "gmail yahoo hotmail outlook icloud aol msn live proton mail comcast verizon"),
    (
        0.08,
        "info sales support contact admin office billing news team hello help service services orders jobs careers "
        "press marketing media security webmaster postmaster reply events feedback booking accounts shop store "
        "company work home email",
    ),
    (
        0.22,
        "james john robert michael william david richard joseph thomas charles christopher daniel matthew anthony mark "
        "donald steven paul andrew joshua kenneth kevin brian george edward ronald timothy jason jeffrey ryan jacob "
        "gary nicholas eric jonathan stephen larry justin scott brandon benjamin samuel gregory frank alexander "
        "raymond patrick jack dennis jerry peter henry adam carlos jose juan luis omar ali mary patricia jennifer "
        "linda elizabeth barbara susan jessica sarah karen nancy lisa betty margaret sandra ashley kimberly emily "
        "donna michelle carol amanda dorothy melissa deborah stephanie rebecca sharon laura cynthia kathleen amy "
        "angela shirley anna brenda pamela emma nicole helen maria julia rachel christine kelly alice priya fatima "
        "tom bob jim mike sam chris alex joe dan ben nick kate jane smith johnson williams brown jones garcia miller "
        "davis rodriguez martinez hernandez lopez gonzalez wilson anderson taylor moore jackson martin lee perez "
        "thompson white harris sanchez clark ramirez lewis robinson walker young allen king wright torres nguyen hill "
        "flores green adams nelson baker hall rivera campbell mitchell carter roberts patel kim singh chen murphy khan",
    ),
)
"""Shares of symbols, digits, providers, mailboxes and the most common names, each equal within itself."""
_OTHER_SHARE = 0.04
OTHER_PRONUNCIATIONS: dict[str, dict[tuple[int, ...], float]] = {"yahoo": {arpabet_to_ids(["Y", "AA", "UW"])[0]: 0.0}}
"""Ways to say words of addresses that a lexicon may lack."""


def address_shares(words: Collection[str]) -> dict[str, float]:
    """How probable each word is anywhere in an address, 0 to 1; all other words have what is left of 1.

    Args:
        words: what else a grammar may be said with: units, letters, the alphabet of aviation.
    """
    shares = dict.fromkeys(words, _OTHER_SHARE / max(len(words), 1))
    for share, listed in _PARTS:
        part = listed.split()
        for word in part:
            shares[word] = shares.get(word, 0.0) + share / len(part)
    return shares
