"""The simulation of traffic compiled from C. The sources are in `c/`; how they are compiled, found and called:
`mowich.compiled`.

The Python code of this package is the rule: `ReplicaFleet`, `Replica` and what they hold. `CompiledFleet` plays the
same to the last bit. MOWICH_TRAFFIC=python asks for the Python code, MOWICH_TRAFFIC=compiled refuses to run without the
compiled one. `why_not_compiled` says what the C code does not do.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mowich.arrays import Floats
from mowich.compiled import CompiledLibrary, CompiledStruct, by_reference, c_struct, done
from mowich.serving.anchors import ShiftAlong
from mowich.serving.conversations import Conversations
from mowich.serving.media import FleetMedia
from mowich.serving.sessions import SessionColumns
from mowich.serving.traffic.autoscale import Autoscale, ScaledPool, SinceLook
from mowich.serving.traffic.columns import Counts, RequestColumns, added
from mowich.serving.traffic.outages import (
    RECOVERIES,
    CacheWay,
    Chance,
    Failure,
    NeverAnsweredError,
    Recovery,
    drawn_failures,
)
from mowich.serving.traffic.policies import ADMISSIONS, KEYED, RETRACT, ROUTES, Scheduler
from mowich.serving.traffic.replica import CacheTooSmallError
from mowich.serving.traffic.requests import UserRequest
from mowich.serving.traffic.tiers import WRITES, Tiering, stores_of, tiering_of
from mowich.serving.traffic.times import Seen, StepTimes
from mowich.serving.traffic.unevenness import Unevenness

_DONE, _NO_MEMORY, _TOO_SMALL, _LOOK, _MORE, _STOPPED, _BEYOND, _CHANCE, _NEVER = range(9)
DRAWN_AT_ONCE = 64
"""Failures by chance that are drawn at once."""
_AT_ONCE = 1 << 16
"""Answered requests of conversations that are taken at once."""

TRAFFIC_LIBRARY = CompiledLibrary(
    what="simulation of traffic",
    path=Path(__file__).parent / "_traffic.so",
    prefix="traffic",
    variable="MOWICH_TRAFFIC",
    functions={
        ctypes.c_void_p: "open 1",
        ctypes.c_int: "feed 2 drain 1 converse 2",
        ctypes.c_int64: "answers 2 bins 5",
        None: "close 1 totals 2 replicas 2 take 4 up 3 came 2 drawn 3",
    },
    worth_saying=20_000,  # requests
)


class TrafficStruct(CompiledStruct):
    """A struct of the simulation of traffic."""


_Shift = c_struct(
    TrafficStruct,
    "traffic.h:Shift",
    "users prompts user_at prompt_at parts user_reach prompt_reach constant is_shifted",
    "user_reach prompt_reach constant",
)
_Uneven = c_struct(TrafficStruct, "traffic.h:Uneven", "rows columns x0 y0 logs")
_AdapterCosts = c_struct(
    TrafficStruct,
    "traffic.h:AdapterCosts",
    "slots host fixed_s each_s token_s load_s read_s",
    "fixed_s each_s token_s load_s read_s",
)
_Times = c_struct(
    TrafficStruct,
    "traffic.h:Times",
    "n_tokens n_sampled n_experts n_windows n_window_pairs tokens sampled experts windows window_pairs per_context"
    " prefill_step pair kv_B few_launches many_launches capture half prompt_token verify tpot reading asking adapters",
    "per_context prefill_step pair kv_B few_launches many_launches capture half prompt_token verify",
    tpot=_Shift,
    reading=_Uneven,
    asking=_Uneven,
    adapters=_AdapterCosts,
)
_Seen = c_struct(
    TrafficStruct,
    "traffic.h:Seen",
    "step_share front_s front_token_s visible_tokens ttft",
    "step_share front_s front_token_s visible_tokens",
    ttft=_Shift,
)
_Rules = c_struct(
    TrafficStruct,
    "traffic.h:Rules",
    "budget max_sequences blocks block chunks mixes packs is_priority is_swap prefix_cache hash_block"
    " groups stages interval wait is_keyed is_lof is_retract admission answer_limit ratio_steps retract_ahead"
    " retract_steps answer_clip long_prompt host_Bps verified accepted enough ratio ratio_least",
    "host_Bps verified accepted enough ratio ratio_least",
)
_Tier = c_struct(
    TrafficStruct,
    "traffic.h:Tier",
    "limit write lanes stays read_Bps write_Bps latency_s name_B",
    "read_Bps write_Bps latency_s name_B",
)
_Tiering = c_struct(TrafficStruct, "traffic.h:Tiering", "n_tiers is_faster by_layers prefetch tiers")
_Loss = c_struct(TrafficStruct, "traffic.h:Loss", "at_s down_s drain_s replica", "at_s down_s drain_s")
_Way = c_struct(TrafficStruct, "traffic.h:Way", "n_kept kept token_s state_s latency_s", "token_s state_s latency_s")
_Talks = c_struct(
    TrafficStruct,
    "traffic.h:Talks",
    "requests n users n_starts shared_prefix block longest n_adapters prompts outputs turns firsts pauses starts"
    " adapters until_s",
    "until_s",
)
_Graph = c_struct(
    TrafficStruct,
    "traffic.h:Graph",
    "sessions users n_starts first last prompts outputs waits names_at whole names edges_at edges from_start edge_s"
    " at_s pauses starts until_s",
    "until_s",
)
_Limit = c_struct(TrafficStruct, "traffic.h:Limit", "is_there ttft_s tpot_s enough", "ttft_s tpot_s enough")
_Given = c_struct(
    TrafficStruct,
    "traffic.h:Given",
    "replicas decoders route has_front n_losses scales scales_decoders rules decode_rules times decode_times seen"
    " decode_seen tiering decode_tiering way talks graph limit losses look_every_s moves move_way detect_s retry_s"
    " has_chance",
    "look_every_s detect_s retry_s",
)
_Requests = c_struct(
    TrafficStruct, "traffic.h:Requests", "n first_id arrival_s prompt output priority names_at names adapter"
)
TIER_COLUMNS = ("tier_1", "tier_2", "tier_3")
"""Tokens of a request that were in each tier of the cache."""
ANSWER = np.dtype(
    [
        *((name, np.int64) for name in ("id", "prompt", "output", "replica", "cached", "preemptions", "failures")),
        *((name, np.int64) for name in ("conversation", "turn", *TIER_COLUMNS, "moves", "adapter")),
        *((name, np.float64) for name in ("arrival_s", "scheduled_s", "first_token_s", "last_token_s", "loads_s")),
    ]
)
"""Answered requests, in the order of their ends: traffic.h:Answer."""
TOLD = np.dtype(
    [
        *((name, np.float64) for name in ("t", "busy_s", "up_s")),
        *((f"{what}_{k}", np.float64) for k in (1, 2, 3) for what in ("read", "written")),
        *((name, np.int64) for name in ("steps", "events", "prompt_tokens", "served", "load")),
        *((name, np.int64) for name in ("queued_tokens", "waiting", "blocks_used", "loads", "reads")),
    ]
)
"""What each replica did and holds: traffic.h:Told."""
AnswerColumns = NDArray[np.void]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaGroup:
    """Replicas of one kind. seen: what users see beyond the engine's own times (None: these times); tiering: of their
    prefix caches (None: what the scheduler says)."""

    count: int
    times: StepTimes
    scheduler: Scheduler
    seen: Seen | None
    tiering: Tiering | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSetup:
    """What a fleet is made of, in C and Python. decode: a pool of their own when prefill and decode are apart; way: of
    a cache between them; failures, chance, recovery: replicas that go; rule, decode_rule: that replicas and decoders
    come and go by (None: all are there); is_traced: whether every step is kept; media: images and sound of requests,
    with their encoders (None: text alone)."""

    serve: ReplicaGroup
    decode: ReplicaGroup | None = None
    route: str = "round-robin"
    way: CacheWay | None = None
    failures: tuple[Failure, ...] = ()
    chance: Chance | None = None
    recovery: Recovery = field(default_factory=Recovery)
    rule: Autoscale | None = None
    decode_rule: Autoscale | None = None
    is_traced: bool = False
    media: FleetMedia | None = None


def why_not_compiled(setup: FleetSetup) -> str:
    """What of a fleet the C code does not do; "" where it does all."""
    if setup.is_traced:
        return "a timeline of every step"
    for one in (setup.serve, setup.decode):
        if one is not None and one.scheduler.compiled:
            return "steps of compiled graphs"
        if one is not None and one.scheduler.policy in ("lpm", "dfs-weight"):
            return "a queue in the order of what is cached"
    if any(tier.is_shared for w in (setup.serve, setup.decode) if w and w.tiering for tier in w.tiering.tiers):
        return "a tier of the cache that replicas share"
    if setup.media is not None:
        return "images and sound"
    return ""


def compiled_library(setup: FleetSetup) -> ctypes.CDLL | None:
    """The compiled code, where it plays this fleet."""
    return None if why_not_compiled(setup) else TRAFFIC_LIBRARY.library()


@dataclass(slots=True)
class PlayedReplica:
    """What a replica of the compiled fleet did and holds: a row of `TOLD`. Its rule of autoscaling sets `up_s`.
    blocks: of its cache."""

    fleet: CompiledFleet
    index: int
    blocks: int

    def _told(self, name: str) -> float:
        return float(self.fleet.told[name][self.index])

    @property
    def busy_s(self) -> float:
        return self._told("busy_s")

    @property
    def steps(self) -> int:
        return int(self._told("steps"))

    @property
    def events(self) -> int:
        return int(self._told("events"))

    @property
    def moved_B(self) -> list[tuple[float, float]]:
        return [(float(self._told(f"read_{k}")), float(self._told(f"written_{k}"))) for k in (1, 2, 3)]

    @property
    def load(self) -> int:
        return int(self._told("load"))

    @property
    def waits(self) -> int:
        return int(self._told("waiting"))

    @property
    def queued_tokens(self) -> int:
        return int(self._told("queued_tokens"))

    @property
    def kv_share(self) -> float:
        return int(self._told("blocks_used")) / self.blocks

    @property
    def adapter_loads(self) -> tuple[int, int]:
        return int(self._told("loads")), int(self._told("reads"))

    @property
    def up_s(self) -> float:
        return self._told("up_s")

    @up_s.setter
    def up_s(self, at_s: float) -> None:
        self.fleet.told["up_s"][self.index] = at_s
        self.fleet.library.traffic_up(self.fleet.address, self.index, by_reference(ctypes.c_double(at_s)))


class CompiledFleet:
    """`ReplicaFleet`, played by the C code. late, slow: answered requests beyond either limit.

    Example: `for answers in fleet.run(columns): ...`, once; then `replicas`, `decoders` and `taken` say what it did.
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        setup: FleetSetup,
        follow: Conversations | SessionColumns | None = None,
        limit: tuple[float, float, float] | None = None,
    ) -> None:
        """limit: (TTFT in s, TPOT in s, how many requests beyond one of them are enough to stop)."""
        self.library = library
        decode, behind = setup.decode, setup.decode or setup.serve
        self._names = BlockNames()
        self._decoders = decode.count if decode else 0
        self.told = np.zeros(setup.serve.count + self._decoders, TOLD)
        everyone = range(len(self.told))
        first, blocks, blocks_behind = setup.serve.count, setup.serve.scheduler.blocks, behind.scheduler.blocks
        self.replicas = [PlayedReplica(self, i, blocks) for i in everyone[:first]]
        self.decoders = [PlayedReplica(self, i, blocks_behind) for i in everyone[first:]]
        pools = ((setup.rule, self.replicas), (setup.decode_rule, self.decoders))
        self.scaled, self.scaled_decoders = (
            None if rule is None else ScaledPool(rule=rule, replicas=replicas) for rule, replicas in pools
        )
        self._came = [0, 0, 0, 0]
        self._talks = _talks(follow) if isinstance(follow, Conversations) else None
        self._graph = _graph(follow, self._names) if isinstance(follow, SessionColumns) else None
        given = self._talks or self._graph
        starts = np.asarray([] if given is None else given.made_of[given.own_fields.index("starts")], np.float64)
        self.first_s: float | None = float(starts[0]) if len(starts) else None
        self._ids: list[str] = follow.ids if isinstance(follow, SessionColumns) else []
        self.is_stopped = False
        losses = _losses(setup.failures)
        victims = self._decoders or setup.serve.count
        self._chance = None if setup.chance is None else drawn_failures(victims, setup.chance)
        how = setup.recovery
        rule = setup.rule or setup.decode_rule
        self._given = _Given.of(
            None,
            replicas=setup.serve.count,
            decoders=self._decoders,
            route=ROUTES.index(setup.route),
            has_front=setup.serve.seen is not None,
            n_losses=len(setup.failures),
            scales=setup.rule is not None,
            scales_decoders=setup.decode_rule is not None,
            rules=_rules(setup.serve.scheduler),
            decode_rules=_rules(behind.scheduler),
            times=_times(setup.serve.times),
            decode_times=_times(behind.times),
            seen=_seen(setup.serve.seen),
            decode_seen=_seen(behind.seen),
            tiering=_tiering(setup.serve),
            decode_tiering=_tiering(behind),
            way=None if setup.way is None else _way(setup.way),
            talks=self._talks,
            graph=self._graph,
            limit=_Limit(0, 0.0, 0.0, 0.0) if limit is None else _Limit(1, *limit),
            losses=losses,
            look_every_s=0.0 if rule is None else rule.every_s,
            moves=RECOVERIES.index(how.moves),
            move_way=None if how.way is None else _way(how.way),
            detect_s=how.detect_s,
            retry_s=how.retry_s,
            has_chance=setup.chance is not None,
        )
        self.address = library.traffic_open(by_reference(self._given))
        if not self.address:
            raise MemoryError
        self._take()
        self._draw()

    def __del__(self) -> None:
        if getattr(self, "address", None):
            self.library.traffic_close(self.address)
            self.address = None

    def run(self, chunks: Iterable[RequestColumns] = ()) -> Iterator[AnswerColumns]:
        """Serve requests to the end, or until the limit is passed; yields those that were answered, in the order of
        their ends. Raises CacheTooSmallError, MemoryError."""
        if self._talks is not None or self._graph is not None:
            yield from self._play(self.library.traffic_converse, _AT_ONCE)
            return
        for chunk in chunks:
            if self.first_s is None:
                self.first_s = float(chunk.arrival_s[0])
            if chunk.ids is not None:
                self._ids += chunk.ids
            given = _Requests.of(chunk, n=len(chunk), first_id=chunk.first, names=self._names.of(chunk.names))
            yield from self._play(self.library.traffic_feed, by_reference(given))
            if self.is_stopped:
                return
        yield from self._play(self.library.traffic_drain)

    def id_of(self, number: int) -> str:
        """What a request is called."""
        return self._ids[number] if self._ids else str(number)

    def _play(self, function: Callable[..., int], *given: object) -> Iterator[AnswerColumns]:
        """Call until it is done, and look where it is time to."""
        while True:
            status = function(self.address, *given)
            self.library.traffic_replicas(self.address, self.told.ctypes.data)
            answers = self._answers()
            for pool in (self.scaled, self.scaled_decoders):
                if pool is not None:
                    _count(pool.seen, answers)
            yield answers
            if status == _LOOK:
                self._look()
            elif status == _CHANCE:
                self._draw()
            elif status != _MORE:
                break
        if status == _TOO_SMALL:
            _, _, _, number, prompt, output, tokens = self._totals()
            raise CacheTooSmallError(UserRequest(self.id_of(number), 0.0, prompt, output), tokens)
        if status == _NEVER:
            raise NeverAnsweredError(UserRequest(self.id_of(self._totals()[3]), 0.0, 1, 1))
        if status == _BEYOND:
            raise IndexError("a batch beyond the tables of step times")
        self.is_stopped = status == _STOPPED
        if not self.is_stopped:
            done(status)

    def _answers(self) -> AnswerColumns:
        where = ctypes.c_void_p()
        n = self.library.traffic_answers(self.address, by_reference(where))
        out = np.empty(n, ANSWER)
        if n:
            ctypes.memmove(out.ctypes.data, where, out.nbytes)
        return out

    def _totals(self) -> list[int]:
        out = np.zeros(7, np.int64)
        self.library.traffic_totals(self.address, out.ctypes.data)
        found: list[int] = out.tolist()
        return found

    @property
    def taken(self) -> int:
        """Requests that came."""
        return self._totals()[0]

    @property
    def beyond(self) -> tuple[int, int]:
        """Answered requests beyond the limit on the first token, and on later ones."""
        _, late, slow, *_ = self._totals()
        return late, slow

    def _draw(self) -> None:
        """Draw the next failures by chance."""
        if self._chance is not None:
            self._drawn = _losses(list(islice(self._chance, DRAWN_AT_ONCE)))
            self.library.traffic_drawn(self.address, DRAWN_AT_ONCE, self._drawn)

    def _look(self) -> None:
        """Let the rules of autoscaling look."""
        out = np.zeros(4, np.int64)
        self.library.traffic_came(self.address, out.ctypes.data)
        came = out.tolist()
        for i, pool in enumerate((self.scaled, self.scaled_decoders)):
            if pool is not None:
                pool.seen.came, pool.seen.prompt = (came[2 * i + k] - self._came[2 * i + k] for k in (0, 1))
                pool.look()
        self._came = came
        self._take()

    def _take(self) -> None:
        """Tell which replicas take requests."""
        for decodes, pool in enumerate((self.scaled, self.scaled_decoders)):
            if pool is not None:
                which = np.array(pool.there, np.int64)
                self.library.traffic_take(self.address, decodes, len(which), which.ctypes.data)


def _count(seen: SinceLook, answers: AnswerColumns) -> None:
    """Count answered requests for the next look, one after the other: `SinceLook.answers`."""
    arrival, first, last = (answers[name] for name in ("arrival_s", "first_token_s", "last_token_s"))
    output = answers["output"]
    later = output > 1
    seen.answered += len(answers)
    seen.output += int(output.sum())
    seen.ttft_s = added(seen.ttft_s, first - arrival)
    seen.e2e_s = added(seen.e2e_s, last - arrival)
    seen.tpot_s = added(seen.tpot_s, (last - first)[later] / (output[later] - 1))


def counted_in_bins(bins: Counts, values: Floats, floor: float, width: float) -> Counts:
    """Counts of bins with those of more values: the first begins at `floor`, each is `width` wide in logarithms."""
    most = math.log(max(float(values.max(initial=floor)), floor) / floor) / width
    out = np.zeros(max(len(bins), int(most) + 2), np.int64)
    out[: len(bins)] = bins
    library = TRAFFIC_LIBRARY.library()
    if library is None:
        for value in values.tolist():
            out[int(math.log(max(value, floor) / floor) / width)] += 1
    else:
        held = np.ascontiguousarray(values)
        ends = np.array([floor, width])
        library.traffic_bins(held.ctypes.data, len(held), ends.ctypes.data, out.ctypes.data, len(out))
    return out


class BlockNames:
    """Names of blocks as 64-bit numbers: whole numbers are their own, whatever else a trace calls a block gets one."""

    def __init__(self) -> None:
        self._known: dict[object, int] = {}

    def of(self, names: Sequence[object] | Counts) -> Counts:
        """One number for each value; equal values have equal numbers."""
        if not len(names):
            return np.zeros(0, np.int64)
        if set(map(type, names)) == {int}:
            try:
                found = np.array(names, np.int64)
                if int(found.max()) < OWN_NAMES:
                    return found
            except OverflowError:
                pass
        return np.array([self._number(name) for name in names], np.int64)

    def _number(self, name: object) -> int:
        if isinstance(name, float) and name.is_integer():
            name = int(name)
        if isinstance(name, int) and -OWN_NAMES <= name < OWN_NAMES:
            return int(name)
        return self._known.setdefault(name, OWN_NAMES + len(self._known))


OWN_NAMES = 1 << 62
"""Numbers of blocks below this are names of their own."""


def _losses(failures: Sequence[Failure]) -> ctypes.Array[TrafficStruct]:
    """Failures as an array; it stays with the caller."""
    return (_Loss * len(failures))(
        *(_Loss(f.at_s, f.down_s, -1.0 if f.drain_s is None else f.drain_s, f.replica) for f in failures)
    )


def _rules(s: Scheduler) -> TrafficStruct:
    return _Rules.of(
        s,
        is_priority=s.policy == "priority",
        is_swap=s.preemption == "swap",
        is_keyed=s.policy in KEYED,
        is_lof=s.policy == "lof",
        is_retract=s.preemption == RETRACT,
        admission=ADMISSIONS.index(s.admission),
    )


def _tiering(w: ReplicaGroup) -> TrafficStruct:
    tiering = tiering_of(w.scheduler, w.times.kv_B) if w.tiering is None else w.tiering
    stores = stores_of(tiering, w.scheduler.hash_block * w.times.kv_B, 1)[0]
    tiers = [
        _Tier.of(one.tier, limit=one.limit, write=WRITES.index(one.tier.write), name_B=one.name_B) for one in stores
    ]
    return _Tiering.of(
        tiering,
        n_tiers=len(tiers),
        is_faster=tiering.load == "faster",
        by_layers=tiering.overlap == "layers",
        tiers=(_Tier * len(tiers))(*tiers),
    )


def _shift(shift: ShiftAlong) -> TrafficStruct:
    return _Shift.of(
        shift,
        users=len(shift.users),
        prompts=len(shift.prompts),
        user_at=shift.users,
        prompt_at=shift.prompts,
        user_reach=shift.reach[0],
        prompt_reach=shift.reach[1],
        is_shifted=bool(shift.parts),
    )


def _uneven(grid: Unevenness | None) -> TrafficStruct:
    if grid is None:
        return _Uneven(0, 0, 0, 0, 0)
    return _Uneven.of(grid, rows=len(grid.logs), columns=len(grid.logs[0]))


def _times(times: StepTimes) -> TrafficStruct:
    return _Times.of(
        times,
        n_tokens=len(times.tokens),
        n_sampled=len(times.sampled),
        n_experts=len(times.experts),
        n_windows=len(times.windows),
        n_window_pairs=len(times.window_pairs),
        few_launches=times.launches[0],
        many_launches=times.launches[1],
        tpot=_shift(times.tpot),
        reading=_uneven(times.reading),
        asking=_uneven(times.asking),
        adapters=_AdapterCosts(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
        if times.adapters is None
        else _AdapterCosts.of(times.adapters),
    )


def _seen(seen: Seen | None) -> TrafficStruct | None:
    return None if seen is None else _Seen.of(seen.front, ttft=_shift(seen.ttft))


def _way(way: CacheWay) -> TrafficStruct:
    return _Way.of(way, n_kept=len(way.kept))


def _talks(talks: Conversations) -> TrafficStruct:
    starts = np.array(list(islice(talks.begins(), talks.requests)), np.float64)
    tenants = talks.tenants
    given = [] if tenants is None else [tenants.of(i) for i in range(talks.users or talks.requests)]
    return _Talks.of(
        talks,
        **talks.columns(),
        n=talks.requests,
        n_starts=len(starts),
        starts=starts,
        n_adapters=0 if tenants is None else len(tenants.shares),
        adapters=None if tenants is None else np.array(given, np.int64),
    )


def _graph(columns: SessionColumns, names: BlockNames) -> TrafficStruct:
    return _Graph.of(columns, n_starts=len(columns.starts), names=names.of(columns.names))
