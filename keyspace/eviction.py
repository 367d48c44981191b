"""The limit on memory: which keys are evicted when it is reached, and which writes are refused.

1. It owns the policies and the choice of the next key. `keyspace/accounting.py` has the sizes and uses of keys. Nothing
   here reads the clock or the process's memory.
2. It evicts before a command that may need memory, never on a read.
3. Each evicted key is logged as a DEL. Replay evicts nothing: it loads the whole log, whatever the limit.
4. The work for one command is bounded by the bytes that it brings, plus at most MOST_KEYS keys. If it needs more than
   MOST_KEYS keys, they are evicted in slices and the command runs after that. If the keyspace is above the limit for
   another reason (the limit was lowered, or a large log was loaded), housekeeping evicts the rest in slices.

As in Redis the choice is approximate. For each eviction, `samples` random keys of each database are ranked, and a pool
keeps the best candidates so far:

    draw  -> `samples` random keys, of all keys or of those with a deadline
    rank  -> time of last use | number of uses | deadline       the smallest is evicted first
    pool  -> the POOL_KEYS smallest of all that were drawn; the first one is evicted unless it was used since

With the pool five samples are nearly as good as a list of all keys by use. (Refused: that list. It costs each read a
move in it, and each key two pointers.) Two things differ from Redis: ranks are absolute (a time, not an idle time), so
old candidates compare with new ones; and a key of the pool is ranked again before it is evicted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator

from keyspace.accounting import NEW_KEY_BYTES, Frequency, Memory, Recency, Usage, Uses
from store import Keyspace, Store
from values.entry import NO_DEADLINE

AT_ONCE_PLACES = 2048  # a database with no more places is counted at once when the limit is set
POOL_KEYS = 16
MOST_KEYS = 64  # evicted beyond the need of a command: some two milliseconds
STEP_KEYS = 8  # evicted between two checks of the time
Making = Generator[None, None, bool]  # evicts a key a step; returns True if there is room
SAMPLED_SECONDS, SAMPLED_KEYS = 128, 32
DRAWS = 100  # failed draws after which candidates count as rare


def needed_bytes(argv: list[bytes]) -> int:
    """Return an upper bound of the bytes that a request may add: as if each second argument were a new key."""
    return sum(map(len, argv)) + len(argv) // 2 * NEW_KEY_BYTES


class Eviction:
    """The memory limit of an instance, and its enforcement."""

    def __init__(self, store: Store) -> None:
        self.base_bytes = 0  # the process without keys; set at the start
        self.limit_bytes = 0  # 0: no limit, and nothing is counted
        self.pending_bytes = 0  # of a pool's writes that were admitted and are not applied yet
        self.memory: Memory | None = None
        self._store = store
        self._policy = "noeviction"
        self._samples = 5
        self._log_factor, self._decay_minutes = 10, 1
        self._pool: list[tuple[int, float, bytes, int]] = []  # rank, random tie-breaker, key, database
        self._pooled: set[tuple[bytes, int]] = set()  # keys in the pool, each with its database
        self._drawn: list[bytes] = []  # candidates, where those are rare; see `_draw_rare`
        self._next_database = 0  # for the random policies
        self._counting: Iterator[None] | None = None  # the running count of a database

    # ---- settings

    def follow(self, limit_bytes: int, policy: str, samples: int, log_factor: int, decay_minutes: int) -> None:
        """Apply the settings. A new limit takes effect when `step` has counted all keys."""
        self._policy, self._samples = policy, samples
        self._log_factor, self._decay_minutes = log_factor, decay_minutes
        self._pool.clear()
        self._pooled.clear()
        self._drawn.clear()
        self.limit_bytes = limit_bytes
        self.memory = (self.memory or Memory(self.base_bytes)) if limit_bytes else None
        if self.memory is None:
            self._counting = None
        for db in self._store.databases:
            self._follow(db)

    def _follow(self, db: Keyspace) -> None:
        """Give a database the accounts that the settings need, and no others."""
        usage = db.usage or Usage(self._store)
        old = usage.uses
        uses = self._uses_after(old)
        if uses is not old:
            usage.set_uses(uses, len(db))
            if old is not None:
                self._store.garbage.append(old.table)
        if self.memory is None:
            usage.end()
        db.set_usage(usage if usage.uses is not None or usage.memory is not None else None)
        if self.memory is not None and usage.memory is None and len(db.key_order) <= AT_ONCE_PLACES:
            for _ in begin_account(db, self.memory):
                pass

    def _uses_after(self, old: Uses | None) -> Uses | None:
        if self.by_frequency:  # even without a limit, because OBJECT FREQ reads it
            uses = old if isinstance(old, Frequency) else Frequency(self._store)
            uses.tune(self._log_factor, self._decay_minutes)
            return uses
        if isinstance(old, Recency):  # once a client has called OBJECT IDLETIME, its answers stay true
            return old
        return Recency(self._store) if self.limit_bytes and self._policy.endswith("lru") else None

    @property
    def by_frequency(self) -> bool:
        """Return True if the policy ranks keys by the number of their uses."""
        return self._policy.endswith("lfu")

    # ---- making room

    def make_room(self, argv: list[bytes]) -> bool | Making:
        """Evict keys until a request fits. Return False if it cannot fit; then it must not run.

        If more than MOST_KEYS keys have to be evicted, return a generator that evicts the others, a key a step.
        """
        memory = self.memory
        if memory is None:
            return True
        need_bytes = needed_bytes(argv) + self.pending_bytes
        if memory.used_bytes + need_bytes <= self.limit_bytes:
            return True
        if self.base_bytes + need_bytes > self.limit_bytes:
            return False  # even without any key it would not fit
        making = self._make_room(memory, need_bytes)
        try:
            for _ in range(MOST_KEYS + 1):
                next(making)
        except StopIteration as done:
            has_room: bool = done.value
            return has_room
        return making

    def has_room(self, need_bytes: int) -> bool:
        """Return True if `need_bytes` fit without an eviction."""
        memory = self.memory
        return memory is None or memory.used_bytes + self.pending_bytes + need_bytes <= self.limit_bytes

    def _make_room(self, memory: Memory, need_bytes: int) -> Making:
        """Evict a key a step until there is room.

        If memory was above the limit before, stop after MOST_KEYS keys and the request's own bytes; `step` evicts the
        rest.
        """
        enough_bytes = memory.used_bytes - need_bytes
        evicted = 0
        while self.memory is memory and memory.used_bytes + need_bytes > self.limit_bytes:
            if evicted >= MOST_KEYS and memory.used_bytes <= enough_bytes:
                return True
            if not self._evict():
                return False
            evicted += 1
            yield
        return True

    def step(self, out_of_time: Callable[[], bool]) -> bool:
        """Count the keys not counted yet, then evict down to the limit. Return True if all of it is done."""
        if not self._count(out_of_time):
            return False
        while self.memory is not None and self.memory.used_bytes > self.limit_bytes:
            for _ in range(STEP_KEYS):
                if not self._evict():
                    return True
            if out_of_time():
                return False
        return True

    def _count(self, out_of_time: Callable[[], bool]) -> bool:
        """Count keys until `out_of_time()`. Return True if each database has an account or needs none."""
        while self.memory is not None:
            if self._counting is None:
                missing = (db for db in self._store.databases if db.usage is None or db.usage.memory is None)
                db = next(missing, None)
                if db is None:
                    return True
                self._counting = begin_account(db, self.memory)
            for _ in self._counting:
                if out_of_time():
                    return False
            self._counting = None
        return True

    def _evict(self) -> bool:
        """Evict one key. Return False if the policy finds none."""
        if self._policy == "noeviction":
            return False
        choose = self._any_key if self._policy.endswith("random") else self._worst_key
        choice = choose()
        if choice is None:
            return False
        db, key = choice
        db.evict(key)
        return True

    def _any_key(self) -> tuple[Keyspace, bytes] | None:
        """Choose a random key, from each database in turn."""
        databases = self._store.databases
        for _ in databases:
            self._next_database = (self._next_database + 1) % len(databases)
            db = databases[self._next_database]
            if self._has_candidates(db):
                return db, self._draw(db)
        return None

    def _worst_key(self) -> tuple[Keyspace, bytes] | None:
        """Choose the key with the smallest rank of those drawn so far."""
        databases = self._store.databases
        pool = self._pool
        while self._fill_pool():
            while pool:
                rank, _, key, index = pool.pop(0)
                self._pooled.discard((key, index))
                db = databases[index]
                if self._may_go(db, key) and self._rank(db, key) <= rank:
                    return db, key
        return None

    def _fill_pool(self) -> bool:
        """Draw and rank some keys of each database. Return True if there were any."""
        pool, pooled = self._pool, self._pooled
        found = False
        for db in self._store.databases:
            if self._has_candidates(db):
                found = True
                for _ in range(self._samples):
                    key = self._draw(db)
                    entry = self._rank(db, key), self._store.random.random(), key, db.index
                    place = bisect_left(pool, entry)
                    if place < POOL_KEYS and entry[2:] not in pooled:
                        pool.insert(place, entry)
                        pooled.add(entry[2:])
                        if len(pool) > POOL_KEYS:
                            pooled.discard(pool.pop()[2:])
        return found

    def _rank(self, db: Keyspace, key: bytes) -> int:
        if self._policy == "volatile-ttl":
            return db.deadline_ms(key)
        assert db.usage is not None
        assert db.usage.uses is not None
        return db.usage.uses.rank(key)

    # ---- drawing

    def _has_candidates(self, db: Keyspace) -> bool:
        return bool(db.expiry.volatile_count if self._policy.startswith("volatile") else len(db))

    def _may_go(self, db: Keyspace, key: bytes) -> bool:
        if self._policy.startswith("volatile"):
            return db.deadline_ms(key) != NO_DEADLINE
        return key in db.entries

    def _draw(self, db: Keyspace) -> bytes:
        """Return a random key that may be evicted. There is at least one."""
        places = db.key_order.places
        chance, count = self._store.random.random, len(places)
        for _ in range(DRAWS):
            key = places[int(chance() * count)]
            if key is not None and self._may_go(db, key):
                return key
        return self._draw_rare(db)

    def _draw_rare(self, db: Keyspace) -> bytes:
        """Do what `_draw` does where candidates are rare: from a list of candidates that serves many draws."""
        drawn = self._drawn
        while True:
            while drawn:
                place = int(self._store.random.random() * len(drawn))
                key, drawn[place] = drawn[place], drawn[-1]
                drawn.pop()
                if self._may_go(db, key):
                    return key
            if self._policy.startswith("volatile"):
                drawn += self._some_volatile(db) or db.expiry.keys()
            else:
                drawn += db.entries

    def _some_volatile(self, db: Keyspace) -> list[bytes]:
        """Return up to some thousands of the keys with a deadline: some keys of some seconds."""
        due, sample = db.expiry.due, self._store.random.sample
        buckets = [due[second] for second in sample(list(due), min(SAMPLED_SECONDS, len(due)))]
        keys = [key for bucket in buckets for key in sample(bucket, min(SAMPLED_KEYS, len(bucket)))]
        return [key for key in dict.fromkeys(keys) if self._may_go(db, key)]


def begin_account(db: Keyspace, memory: Memory) -> Iterator[None]:
    """Make the account of a database's memory in small steps. It is exact at the end, whatever changes meanwhile.

    A flush or the end of the limit ends the count. If the database is swapped meanwhile, the other one may be left
    without an account; the next count makes it.
    """
    while db.key_order.read >= 0:  # a compaction moves keys, so the count waits for its end
        db.key_order.compact()
        yield
    usage = db.usage or Usage(db.store)
    db.set_usage(usage)
    if usage.memory is not None:
        return
    entries, tally = db.entries, usage.begin(memory)
    for keys in db.key_order.walk():
        if usage.tally is not tally:
            return
        usage.count_some(keys, entries)
        yield
    if usage.tally is tally:
        db.store.garbage.append(usage.end_tally())
