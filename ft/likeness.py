"""How unlike two names are: slips of the fingers cost little, within one part of a dotted name or across its parts.

    max_epoch   trainer.max_epochs    one letter and a part that was left out
    modle.head  model.head            two letters that changed places
    batch-size  data.batch_size       another separator

The cost of a slip is one letter's share of the longer name, as in the Damerau-Levenshtein distance (optimal string
alignment: Boytsov 2011, doi:10.1145/1963190.1963191), which counts two letters that changed places once.
"""

import re
from collections.abc import Sequence

# Costs of a part of a dotted name, where a wholly different one costs 1.
LEFT_OUT, TOO_MANY = 0.12, 0.6
# The same letters with other separators: trainer_max_epochs, trainer/max_epochs.
OTHER_SEPARATORS = 0.02
# A name that begins, or ends, with all that was typed is near, whatever its length.
BEGUN = 0.4


def unlikeness(given: str, known: str) -> float:
    """From 0, the same, to about 1, nothing in common.

    Args:
        given: What was typed.
        known: A name that exists, which may have dots.
    """
    given, known = given.lower(), known.lower()
    if given == known:
        return 0.0
    apart = _parts(re.split(r"[./:]", given), known.split("."))
    letters = [re.sub(r"[\W_]+", "", name) for name in (given, known)]
    if abs(len(letters[0]) - len(letters[1])) > 1 or (slipped := slips(*letters)) > 1:
        return apart
    return min(apart, OTHER_SEPARATORS + slipped / len(letters[1]))


def _parts(given: Sequence[str], known: Sequence[str]) -> float:
    """Over the given parts, each beside a known one or beside none, in order; the last parts belong together."""
    columns = len(known) + 1
    costs = [at * LEFT_OUT for at in range(columns)]
    for part in given[:-1]:
        before, costs = costs, [costs[0] + TOO_MANY]
        for at in range(1, columns):
            beside = before[at - 1] + _part(part, known[at - 1])
            costs.append(min(beside, before[at] + TOO_MANY, costs[at - 1] + LEFT_OUT))
    # Between the parts before the last and the last itself, known ones may have been left out.
    # Between one and the mean: of many parts, one may be wholly another, but then the name is another one.
    return (costs[-2] + _part(given[-1], known[-1])) / len(given) ** 0.5


def _part(given: str, known: str) -> float:
    if given and len(given) > 1 and (known.startswith(given) or known.endswith(given)):
        return min(BEGUN, 1 - len(given) / len(known))
    longer = max(len(given), len(known), 1)
    if 2 * abs(len(given) - len(known)) > longer:
        return 1.0  # Whatever the letters are, and there are a thousand names of models.
    return slips(given, known) / longer


def slips(given: str, known: str) -> int:
    """Letters to add, take away, exchange, or let change places with the next, each only once."""
    two_before: list[int] = []
    before = list(range(len(known) + 1))
    for row, letter in enumerate(given, start=1):
        costs = [row]
        for at, other in enumerate(known, start=1):
            cost = min(before[at] + 1, costs[at - 1] + 1, before[at - 1] + (letter != other))
            if row > 1 and at > 1 and letter == known[at - 2] and given[row - 2] == other:
                cost = min(cost, two_before[at - 2] + 1)
            costs.append(cost)
        two_before, before = before, costs
    return before[-1]
