"""Groups of choices that share one list: what makes a list unable to give its choice away.

A group is n choices of n different people, on n different items, close in time. Each of the n people is shown the
same n items in the same order, so each item is the choice of exactly one of them: whoever does not look at the person
is right once in n, whatever else they know. Conditions hold for every ordered pair of members, so that they tell no
member from another:

* the person had not chosen the other's item by the time of their own choice (in domains with repeats: not on the same
  occasion);
* the item, if its release date is known, exists at the time of the other's choice;
* the two choices are at most `max_span` apart, if that is set.

Choices are dealt by seed into portions. Within one, blocks of choices that are neighbours in time are searched for
groups, and what is left over goes into larger blocks, until a pass finds nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from usermirrorer.data.log.choices import Choices
from usermirrorer.data.log.tables import Tables
from usermirrorer.seeds import Order, Stream, number_keys, other_keys, set_ids, uniforms


PORTION = 2**16
"""Most choices that are grouped together: it bounds the work for the first groups, and memory."""

BLOCK_FACTOR, LEAST_BLOCK, MOST_BLOCK = 5, 64, 2048
"""Choices in a block: at first the factor × (most options)², since conditions hold for pairs; then twice as many."""

MOST_PASSES = 24

Split = Callable[[np.ndarray, int], list[np.ndarray]]
"""(rows of choices in time order, size) → the blocks to search."""


@dataclass(frozen=True)
class Groups:
    """Groups in the order in which they are taken."""

    member: np.ndarray
    """int64 `(scenes,)`: rows of the choices, group after group, each in the order of its options"""
    size: np.ndarray
    """int64 `(groups,)`"""
    id: np.ndarray
    """uint64 `(groups,)`"""

    @property
    def start(self) -> np.ndarray:
        """First member of each group: int64 `(groups,)`."""
        return np.cumsum(self.size) - self.size


def portions(choices: Choices) -> list[np.ndarray]:
    """Rows of the choices, dealt by seed into equal portions of at most `PORTION`."""
    dealt = np.argsort(other_keys(choices.key, Order.PORTION), kind="stable")
    return np.array_split(dealt, max(-(-len(dealt) // PORTION), 1))


def form_groups(
    tables: Tables,
    choices: Choices,
    lengths: tuple[int, int],
    seed: int,
    max_span: int | None = None,
    split: Split | None = None,
    workers: int = 1,
) -> Groups:
    """The groups of one portion of choices, of `lengths` (fewest, most) members, in an order drawn by seed.

    `max_span` is in milliseconds. `split` cuts a pass's choices, in time order, into blocks; default: as they come.
    The result does not depend on the number of `workers`.
    """
    fewest, most = lengths
    found: list[np.ndarray] = []
    left = _in_time_order(choices, np.arange(len(choices)))
    size, pick = min(max(LEAST_BLOCK, BLOCK_FACTOR * most**2), MOST_BLOCK), hardest
    with ThreadPoolExecutor(workers) as pool:
        for number in range(MOST_PASSES):
            if len(left) < fewest:
                break

            def search(
                rows: np.ndarray, stream: int = Stream.LENGTH + number, pick: Pick = pick
            ) -> tuple[list[np.ndarray], np.ndarray]:
                wanted = uniforms(choices.key[rows], stream, 1)[:, 0] * (most - fewest + 1)
                compatible = _compatible(tables, choices.take(rows), max_span)
                groups, unused = find_cliques(compatible, fewest + wanted.astype(np.int64), pick)
                return [rows[group] for group in groups], rows[unused]

            before = len(found)
            unused = []
            for groups, rest in pool.map(search, (split or in_time)(left, size)):
                found += groups
                unused.append(rest)
            last = size == MOST_BLOCK or size >= len(left)
            left, size = _in_time_order(choices, np.concatenate(unused)), min(2 * size, MOST_BLOCK)
            if last and len(found) == before:
                if pick is widest:
                    break
                # Taking the hardest first uses up all choices best; the widest finds sets among the few that are left.
                pick = widest
    return _ordered(choices, found, seed)


def in_time(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Equal blocks of at most `size` rows that follow each other."""
    return np.array_split(rows, max(-(-len(rows) // size), 1))


Pick = Callable[[list[int], int], int]
"""(each row's mates, candidates) → the candidate to take next; sets of rows are bits of whole numbers."""


def hardest(mates: list[int], candidates: int) -> int:
    """The first candidate: rows come in the order of how few others they are compatible with."""
    return (candidates & -candidates).bit_length() - 1


def widest(mates: list[int], candidates: int) -> int:
    """The candidate that is compatible with most of the others."""
    rows = [row for row, bit in enumerate(reversed(f"{candidates:b}")) if bit == "1"]
    return max(rows, key=lambda row: (mates[row] & candidates).bit_count())


def find_cliques(
    compatible: np.ndarray, wanted: np.ndarray, pick: Pick = hardest
) -> tuple[list[np.ndarray], np.ndarray]:
    """Disjoint sets of mutually compatible rows, and the rows left over.

    `compatible` is symmetric, bool `(rows, rows)`. The row that is compatible with the fewest others goes first and
    picks rows until its set has the size that is `wanted` of it, `(rows,)`; without enough of them it is left over.
    """
    order = np.argsort(compatible.sum(axis=1), kind="stable")
    packed = np.packbits(compatible[order][:, order], axis=1, bitorder="little")
    mates = [int.from_bytes(row.tobytes(), "little") for row in packed]
    sizes = wanted[order].tolist()
    free = (1 << len(mates)) - 1
    groups, unused = [], []
    while free:
        first = (free & -free).bit_length() - 1
        members = _clique(mates, first, free, sizes[first], pick)
        if members:
            groups.append(order[members])
        else:
            unused.append(order[first])
        for member in members or [first]:
            free &= ~(1 << member)
    return groups, np.array(unused, dtype=np.int64)


def _clique(mates: list[int], first: int, free: int, size: int, pick: Pick) -> list[int]:
    """`size` mutually compatible rows among those that are free, `first` included; empty if too few are found."""
    members, candidates = [first], mates[first] & free
    while len(members) < size:
        if candidates.bit_count() < size - len(members):
            return []
        members.append(pick(mates, candidates))
        candidates &= mates[members[-1]]
    return members


def _compatible(tables: Tables, block: Choices, max_span: int | None) -> np.ndarray:
    """Whether each two choices can be in one group: symmetric, bool `(choices, choices)`."""
    user, item, time = block.user, block.item, block.time
    apart = (user[:, None] == user) | (item[:, None] == item)
    apart |= _had(tables, user, item, time)
    released = tables.released[item]
    if released.max() > time.min():
        apart |= released > time[:, None]
    if max_span is not None:
        apart |= np.abs(time[:, None] - time) > max_span
    return ~(apart | apart.T)


def _had(tables: Tables, user: np.ndarray, item: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Whether each person can't be shown each item at their time: bool `(choices, choices)`.

    Without repeats that is an item of an earlier event or of the same occasion, with repeats one of the same occasion.
    """
    log, by_user = tables.log, tables.log.by_user
    items, column_of = np.unique(item, return_inverse=True)
    column = np.full(log.items, -1, dtype=np.int32)
    column[items] = np.arange(len(items))
    until = log.position(time + 1)
    if tables.domain.repeats:
        first = by_user.count(user, log.position(time))
        row, event = by_user.between(user, first, by_user.count(user, until))
        at = column[log.item[event]]
        had = np.zeros((len(user), len(items)), dtype=bool)
        had[row[at >= 0], at[at >= 0]] = True
        return had[:, column_of]
    people, person = np.unique(user, return_inverse=True)
    row, event = by_user.between(people, 0, by_user.count(people, np.full(len(people), until.max())))
    at = column[log.item[event]]
    kept = np.flatnonzero(at >= 0)
    kept = kept[log.first_of_pair[event[kept]]]
    # The first event of each person with each item, as a row of the log.
    first_event = np.full((len(people), len(items)), len(log), dtype=np.int32)
    first_event[row[kept], at[kept]] = event[kept]
    return (first_event[person] < until[:, None].astype(np.int32))[:, column_of]


def _in_time_order(choices: Choices, rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort((choices.key[rows], choices.time[rows]))]


def _ordered(choices: Choices, found: list[np.ndarray], seed: int) -> Groups:
    """Groups and the options of each in orders drawn by seed."""
    size = np.array([len(group) for group in found], dtype=np.int64)
    member = np.concatenate(found) if found else np.zeros(0, dtype=np.int64)
    ids = set_ids(choices.scene_id[member], np.cumsum(size) - size) if found else np.zeros(0, dtype=np.uint64)
    key = number_keys(seed, ids)
    group = np.repeat(np.arange(len(size)), size)
    # A member's place is drawn from its own id and the group's, so that the order of search leaves no trace.
    place = other_keys(number_keys(seed, choices.scene_id[member]) ^ key[group], Stream.POSITION)
    order = np.lexsort((place, key[group]))
    taken = np.argsort(key, kind="stable")
    return Groups(member[order], size[taken], ids[taken])


def whole_groups(formed: Iterable[Groups], num: int) -> tuple[Groups, int]:
    """The first groups with at most `num` members in all, and the number of members that groups had altogether.

    Takes no more portions than it needs. Members are rows of the choices.
    """
    taken: list[Groups] = []
    room, members = num, 0
    for groups in formed:
        members += len(groups.member)
        kept = int(np.searchsorted(np.cumsum(groups.size), room, side="right"))
        scenes = int(groups.size[:kept].sum())
        taken.append(Groups(groups.member[:scenes], groups.size[:kept], groups.id[:kept]))
        room -= scenes
        if kept < len(groups.size) or not room:
            break
    joined = (np.concatenate([getattr(one, name) for one in taken]) for name in ("member", "size", "id"))
    return Groups(*joined), members
