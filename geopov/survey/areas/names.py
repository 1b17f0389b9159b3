"""Matching places by their names, where two tables spell them differently and share no code.

Names are folded (case, accents, spelling variants, words such as "municipality"), compared by the share of letter
pairs they have in common, and matched one to one. Where places come in groups, such as municipalities in districts,
the groups are matched first, by the names of their members, so that a name met in many districts does no harm.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from geopov._validation import some
from geopov.errors import SurveyError

EXACT = "same name"
ALIAS = "alias"
SIMILAR = "similar name"
LAST = "last one left in its group"
UNMATCHED = "no name similar enough"


@dataclass(frozen=True)
class NameRules:
    """How names are made comparable.

    Attributes
    ----------
    drop : sequence of str
        Words that say what a place is and not which: ``["municipality", "city"]``.
    replace : sequence of (str, str)
        Spelling variants, replaced in this order after lower-casing: ``[("ee", "i"), ("w", "v")]``.
    aliases : mapping of str to str
        Left name to right name, for places that were renamed.
    min_similarity : float
        Smallest :func:`similarity` of two names that may be one place, 0 to 1.
    """

    drop: Sequence[str] = ()
    replace: Sequence[tuple[str, str]] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    min_similarity: float = 0.6

    def fold(self, name: str) -> str:
        """``name`` in lower case, without accents, punctuation, spaces and the dropped words, its variants replaced.

        >>> NameRules(drop=["City"], replace=[("ee", "i")]).fold("New Beeshélm City")
        'newbishelm'
        """
        words = [word for word in _plain(name).split() if word not in {_plain(word) for word in self.drop}]
        folded = "".join(words) or _plain(name).replace(" ", "")
        for variant, replacement in self.replace:
            folded = folded.replace(variant, replacement)
        return folded


def similarity(left: Sequence[str], right: Sequence[str]) -> np.ndarray:
    """How alike names are: Dice's coefficient of their pairs of neighbouring letters.

    Parameters
    ----------
    left, right : sequences of str, lengths n and m
        Folded names.

    Returns
    -------
    array (n, m)
        From 0, no pair in common, to 1, the same pairs.

    References
    ----------
    Dice (1945), Ecology 26:297; on names of places see Kondrak, Marcu and Knight (2003), HLT-NAACL.
    """
    pairs = [_letter_pairs(name) for name in (*left, *right)]
    column = {pair: at for at, pair in enumerate(sorted(set().union(*pairs)))}
    has = np.zeros((len(pairs), len(column)), dtype=np.float32)
    for row, found in enumerate(pairs):
        has[row, [column[pair] for pair in found]] = 1
    size = has.sum(axis=1)
    common = has[: len(left)] @ has[len(left) :].T
    return np.asarray(2 * common / (size[: len(left), None] + size[None, len(left) :]), dtype=float)


def match_names(
    left: pd.Series,
    right: pd.Series,
    *,
    left_groups: pd.Series | None = None,
    right_groups: pd.Series | None = None,
    rules: NameRules | None = None,
) -> pd.DataFrame:
    """Match the names of one table to those of another, one to one.

    Two names are matched if each is the other's most similar name in its group and they are at least
    ``rules.min_similarity`` alike. If then one name is left on each side of a group, those two are matched as well.
    Nothing else is guessed.

    Parameters
    ----------
    left, right : Series of str
        Names; their index labels identify the places.
    left_groups, right_groups : Series, optional
        The group of each place, such as its district, indexed like the names. The labels of the two sides need not
        agree: groups are matched one to one by the names of their members.
    rules : NameRules, optional
        How names are folded.

    Returns
    -------
    DataFrame
        Every place of both sides once. ``left`` and ``right`` (index labels, missing where unmatched), ``similarity``
        (0 to 1, of the pair or to the best candidate), ``how``.

    Raises
    ------
    SurveyError
        If a name is missing, an alias names no place, or only one side has groups.
    """
    rules = rules or NameRules()
    for names, side in ((left, "left"), (right, "right")):
        if names.isna().any():
            nameless = names.index[names.isna()]
            raise SurveyError(f"{len(nameless)} {side} places have no name ({some(nameless)}); name or remove them.")
    if (left_groups is None) != (right_groups is None):
        raise SurveyError("names have groups on one side only; give both left_groups and right_groups, or neither.")
    folded_left, folded_right, renamed = _fold(left, right, rules)
    alike = similarity(folded_left, folded_right)
    rows: list[tuple[Hashable | None, Hashable | None, float, str]] = []
    for in_left, in_right in _paired_groups(alike, left, right, left_groups, right_groups):
        block = alike[np.ix_(in_left, in_right)]
        pairs, how = _match_block(block, rules.min_similarity)
        for (i, j), reason in zip(pairs, how, strict=True):
            at_left, at_right = in_left[i], in_right[j]
            if reason == EXACT and renamed[at_left]:
                reason = ALIAS
            rows.append((left.index[at_left], right.index[at_right], float(block[i, j]), reason))
        for i in set(range(len(in_left))) - {i for i, _ in pairs}:
            rows.append((left.index[in_left[i]], None, float(block[i].max(initial=0)), UNMATCHED))
        for j in set(range(len(in_right))) - {j for _, j in pairs}:
            rows.append((None, right.index[in_right[j]], float(block[:, j].max(initial=0)), UNMATCHED))
    return pd.DataFrame(rows, columns=["left", "right", "similarity", "how"])


def _plain(name: str) -> str:
    """Lower case letters, marks and digits of any script, other characters as spaces, Latin accents removed."""
    decomposed = unicodedata.normalize("NFKD", str(name)).casefold()
    kept = "".join(letter for letter in decomposed if not "\u0300" <= letter <= "\u036f")
    return " ".join("".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in kept).split())


def _letter_pairs(name: str) -> set[str]:
    marked = f"^{name}$"
    return {marked[i : i + 2] for i in range(len(marked) - 1)}


def _fold(left: pd.Series, right: pd.Series, rules: NameRules) -> tuple[list[str], list[str], list[bool]]:
    folded_left, folded_right = [rules.fold(name) for name in left], [rules.fold(name) for name in right]
    aliases = {rules.fold(old): rules.fold(new) for old, new in rules.aliases.items()}
    lost = [
        old
        for old, new in rules.aliases.items()
        if rules.fold(old) not in folded_left or rules.fold(new) not in folded_right
    ]
    if lost:
        raise SurveyError(
            f"{len(lost)} aliases name no place ({some(f'{old}: {rules.aliases[old]}' for old in lost)}). "
            "An alias goes from a name of the left table to a name of the right table; correct or remove it."
        )
    renamed = [name in aliases for name in folded_left]
    return [aliases.get(name, name) for name in folded_left], folded_right, renamed


def _paired_groups(
    alike: np.ndarray,
    left: pd.Series,
    right: pd.Series,
    left_groups: pd.Series | None,
    right_groups: pd.Series | None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions of left and right names of each pair of groups; groups without a partner come with an empty side."""
    if left_groups is None or right_groups is None:
        return [(np.arange(len(left)), np.arange(len(right)))]
    lefts, rights = _positions(left, left_groups, "left"), _positions(right, right_groups, "right")
    score = np.zeros((len(lefts), len(rights)))
    for a, in_left in enumerate(lefts):
        for b, in_right in enumerate(rights):
            block = alike[np.ix_(in_left, in_right)]
            i, j = linear_sum_assignment(block, maximize=True)
            score[a, b] = block[i, j].sum() / max(block.shape)
    partner = dict(zip(*linear_sum_assignment(score, maximize=True), strict=True))
    nothing = np.array([], dtype=int)
    pairs = [(in_left, rights[partner[a]] if a in partner else nothing) for a, in_left in enumerate(lefts)]
    return pairs + [(nothing, in_right) for b, in_right in enumerate(rights) if b not in set(partner.values())]


def _positions(names: pd.Series, groups: pd.Series, side: str) -> list[np.ndarray]:
    aligned = groups.reindex(names.index)
    if aligned.isna().any():
        raise SurveyError(f"{int(aligned.isna().sum())} {side} names have no group ({some(names[aligned.isna()])}).")
    codes, labels = pd.factorize(aligned, sort=True)
    return [np.flatnonzero(codes == code) for code in range(len(labels))]


def _match_block(alike: np.ndarray, min_similarity: float) -> tuple[list[tuple[int, int]], list[str]]:
    if 0 in alike.shape:
        return [], []
    # A tie is no answer: the best of a row and of a column must stand alone.
    best = (alike == alike.max(axis=1, keepdims=True)) & (alike == alike.max(axis=0, keepdims=True))
    best &= (best.sum(axis=1, keepdims=True) == 1) & (best.sum(axis=0, keepdims=True) == 1) & (alike >= min_similarity)
    pairs = [(int(i), int(j)) for i, j in np.argwhere(best)]
    how = [EXACT if alike[i, j] == 1 else SIMILAR for i, j in pairs]
    free_left = sorted(set(range(alike.shape[0])) - {i for i, _ in pairs})
    free_right = sorted(set(range(alike.shape[1])) - {j for _, j in pairs})
    if len(free_left) == len(free_right) == 1:
        pairs.append((free_left[0], free_right[0]))
        how.append(LAST)
    return pairs, how
