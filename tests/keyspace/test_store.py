"""The keyspace against a plain model, with a clock that goes where it likes; and what must stay bounded or cheap."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from instances import START_MS, RecordedLog
from tables import for_each

from errors import CommandError
from keyspace.expiry import CLEANED_AN_ADD, FAR_BUCKETS, FAR_SECONDS, FEW_STALE, SLICE
from keyspace.many_keys import put_many, read_strings
from store import Keyspace, Store
from values.entry import NO_DEADLINE, value_of

DAY_MS = 86_400_000
KEYS = 400  # enough of them for compaction, which starts at 64 tombstones
numbers = st.one_of(st.integers(0, 2), st.integers(0, 2), st.integers(0, KEYS - 1))  # a few keys meet again and again
counts = st.sampled_from([1, 1, 1, 20, 150])
databases = st.integers(0, 1)
lives_ms = st.one_of(
    st.just(None),
    st.integers(-5000, 5000),
    st.integers(5000, DAY_MS),
    st.integers(DAY_MS - 5000, DAY_MS + FAR_SECONDS // FAR_BUCKETS * 1000 + 5000),
    st.integers(DAY_MS, 400 * DAY_MS),
    st.integers(DAY_MS, 2**62),
)


def make_store(databases: int = 1) -> Store:
    store = Store(databases, RecordedLog(), Random(0))
    store.tick(START_MS)
    return store


def name(number: int) -> bytes:
    return b"key:%d" % number


def never() -> bool:
    return False


def after(calls: int) -> Callable[[], bool]:
    """Make an `out_of_time` that says yes at its call of that number."""
    left = iter([False] * (calls - 1))
    return lambda: next(left, True)


class Scan:
    """An open scan: what it has yet to return, and what it has returned."""

    def __init__(self, db: int, owed: set[bytes]) -> None:
        self.db = db
        self.cursor = 0
        self.owed = owed
        self.seen: set[bytes] = set()


class KeyspaceMachine(RuleBasedStateMachine):
    """Two databases beside two dicts of key -> (value, deadline), which know nothing but what is promised."""

    @initialize()
    def start(self) -> None:
        self.store = make_store(2)
        self.models: list[dict[bytes, tuple[bytes, int]]] = [{}, {}]
        self.scans: list[Scan] = []

    def live(self, db: int) -> dict[bytes, tuple[bytes, int]]:
        now_ms = self.store.now_ms
        return {key: pair for key, pair in self.models[db].items() if pair[1] == NO_DEADLINE or pair[1] > now_ms}

    def deadline_ms(self, life_ms: int | None) -> int:
        return NO_DEADLINE if life_ms is None else self.store.now_ms + life_ms

    @rule(
        db=databases,
        first=numbers,
        count=counts,
        life_ms=lives_ms,
        apart_ms=st.sampled_from([0, 0, 500, 2000]),
        value=st.binary(),
    )
    def put(self, *, db: int, first: int, count: int, life_ms: int | None, apart_ms: int, value: bytes) -> None:
        for number in range(first, first + count):
            deadline_ms = self.deadline_ms(life_ms if life_ms is None else life_ms + (number - first) * apart_ms)
            self.store.databases[db].put(name(number % KEYS), value, deadline_ms)
            self.models[db][name(number % KEYS)] = value, deadline_ms

    @rule(db=databases, chosen=st.lists(numbers, min_size=1, max_size=8), life_ms=lives_ms, value=st.binary())
    def put_many(self, db: int, chosen: list[int], life_ms: int | None, value: bytes) -> None:
        deadline_ms = self.deadline_ms(life_ms)
        values = [value + b"%d" % place for place in range(len(chosen))]
        put_many(self.store.databases[db], [name(number) for number in chosen], values, deadline_ms)
        for number, put in zip(chosen, values, strict=True):
            self.models[db][name(number)] = put, deadline_ms

    @rule(db=databases, chosen=st.lists(numbers, min_size=1, max_size=8))
    def read_many(self, db: int, chosen: list[int]) -> None:
        live = self.live(db)
        values = read_strings(self.store.databases[db], [name(number) for number in chosen])
        assert values in (None, [live.get(name(number), (None, 0))[0] for number in chosen])

    @rule(db=databases, first=numbers, count=counts)
    def remove(self, db: int, first: int, count: int) -> None:
        live = self.live(db)
        for number in range(first, first + count):
            key = name(number % KEYS)
            expected = live.pop(key, (None, 0))[0]
            assert self.store.databases[db].remove(key) == expected
            self.models[db].pop(key, None)

    @rule(db=databases, number=numbers, value=st.binary())
    def replace(self, db: int, number: int, value: bytes) -> None:
        keyspace, key = self.store.databases[db], name(number)
        old = keyspace.get(key)
        _, deadline_ms = self.live(db).get(key, (None, NO_DEADLINE))
        assert (old is None) == (key not in self.live(db))
        keyspace.replace(key, value)
        self.models[db][key] = value, deadline_ms

    @rule(db=databases, first=numbers, count=counts, life_ms=lives_ms)
    def change_deadline(self, db: int, first: int, count: int, life_ms: int | None) -> None:
        keyspace = self.store.databases[db]
        for number in range(first, first + count):
            key = name(number % KEYS)
            if keyspace.get(key) is None:
                assert key not in self.live(db)
                continue
            value, known_ms = self.live(db)[key]
            if life_ms is None:
                assert keyspace.persist(key) == (known_ms != NO_DEADLINE)
            else:
                keyspace.set_deadline(key, self.deadline_ms(life_ms))
            self.models[db][key] = value, self.deadline_ms(life_ms)

    @rule(db=databases, number=numbers)
    def read(self, db: int, number: int) -> None:
        keyspace, key = self.store.databases[db], name(number)
        value, deadline_ms = self.live(db).get(key, (None, NO_DEADLINE))
        assert keyspace.is_live(key) == (value is not None)
        for read in (keyspace.string, keyspace.read, keyspace.look, keyspace.peek, keyspace.get):
            assert read(key) == value
        assert keyspace.deadline_ms(key) == deadline_ms

    @rule(db=databases)
    def take_a_random_key(self, db: int) -> None:
        key = self.store.databases[db].random_key()
        nearly_none = len(self.live(db)) * 20 < len(self.store.databases[db].key_order)
        assert key in self.live(db) or (key is None and (nearly_none or not self.live(db)))

    @rule(by_ms=st.one_of(st.integers(0, 3000), st.integers(0, DAY_MS), st.integers(0, 40 * DAY_MS)))
    def let_time_pass(self, by_ms: int) -> None:
        self.store.tick(self.store.now_ms + by_ms)

    @rule(by_ms=st.sampled_from([1, 1000, 3_600_000, 3 * DAY_MS]))
    def set_the_clock_back(self, by_ms: int) -> None:
        # What has expired may have been deleted or not; what was deleted does not come back.
        for model, keyspace in zip(self.models, self.store.databases, strict=True):
            for key in model.keys() - keyspace.entries.keys():
                assert model[key][1] <= self.store.now_ms
                del model[key]
        self.store.tick(self.store.now_ms - by_ms)

    @rule(budget=st.integers(1, 5))
    def expire_for_a_while(self, budget: int) -> None:
        self.store.expire_cycle(after(budget))

    @rule()
    def expire_all(self) -> None:
        assert self.store.expire_cycle(never)
        assert not self.store.garbage
        for keyspace in self.store.databases:
            assert min(keyspace.expiry.due, default=self.store.now_ms) >= self.store.now_ms // 1000

    @rule(db=databases)
    def flush(self, db: int) -> None:
        self.store.databases[db].flush()
        self.models[db].clear()

    @rule()
    def swap(self) -> None:
        self.store.databases[0].swap(self.store.databases[1])
        self.models.reverse()
        for scan in self.scans:
            scan.db = 1 - scan.db

    @rule(db=databases)
    def start_scan(self, db: int) -> None:
        self.scans.append(Scan(db, set(self.live(db))))

    @precondition(lambda self: self.scans)
    @rule(data=st.data(), count=st.integers(1, 60))
    def step_scan(self, data: st.DataObject, count: int) -> None:
        scan = data.draw(st.sampled_from(self.scans))
        scan.cursor, found = self.store.databases[scan.db].scan(scan.cursor, count)
        assert len(found) <= count
        assert set(found) <= self.live(scan.db).keys()
        scan.seen.update(found)
        if scan.cursor == 0:
            assert scan.owed <= scan.seen
            self.scans.remove(scan)

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        for db, keyspace in enumerate(self.store.databases):
            keyspace.check()
            live = self.live(db)
            assert {
                key: (value_of(keyspace.entries[key]), keyspace.deadline_ms(key))
                for key in keyspace.entries
                if keyspace.is_live(key)
            } == live
            assert keyspace.live_count() == len(live)
        for scan in self.scans:
            scan.owed &= self.live(scan.db).keys()

    @invariant()
    def counts_and_logs_each_expiry_as_a_deletion(self) -> None:
        log = self.store.log
        assert isinstance(log, RecordedLog)
        assert all(record[0] == b"DEL" for record in log.records)
        assert len(log.records) == self.store.expired_keys


TestKeyspace = KeyspaceMachine.TestCase
TestKeyspace.settings = settings(max_examples=40, stateful_step_count=40, suppress_health_check=[HealthCheck.too_slow])


# ---- slices and bounds


def test_keys_of_one_second_expire_in_slices() -> None:
    store = make_store()
    keyspace = store.databases[0]
    for number in range(200_000):
        keyspace.put(name(number), b"", START_MS + 500)
    store.tick(START_MS + 2000)
    handled = [0]

    def out_of_time() -> bool:
        handled.append(store.expired_keys)
        return len(handled) % 10 == 0

    while not store.expire_cycle(out_of_time):
        keyspace.get(name(0))
    assert store.expired_keys == 200_000
    assert max(after - before for before, after in pairwise(handled)) <= SLICE + 1
    assert not keyspace.expiry.due
    keyspace.check()


def test_expiry_goes_on_where_it_stopped() -> None:
    store = make_store()
    keyspace = store.databases[0]
    for number in range(1000):
        keyspace.put(name(number), b"", START_MS + number * 20)
    store.tick(START_MS + 30_000)
    for budget in range(1, 100):
        done = store.expire_cycle(after(1 + budget % 4))
        keyspace.check()
        if done:
            break
    assert done
    assert not keyspace.entries


def test_a_deadline_that_was_put_off_is_still_met() -> None:
    store = make_store()
    keyspace = store.databases[0]
    for life_ms in (1000, 10_000, 3 * DAY_MS):
        keyspace.put(b"key", b"", START_MS + life_ms)
    for now_ms in (START_MS + 3000, START_MS + 12_000, START_MS + 3 * DAY_MS - 1):
        store.tick(now_ms)
        assert store.expire_cycle(never)
        keyspace.check()
        assert keyspace.is_live(b"key")
    store.tick(START_MS + 3 * DAY_MS + 1000)
    assert store.expire_cycle(never)
    assert not keyspace.entries


@pytest.mark.parametrize("expired_before", [True, False])
def test_keys_expire_while_the_clock_stands_before_seconds_that_are_done(expired_before: bool) -> None:
    store = make_store()
    keyspace = store.databases[0]
    keyspace.put(b"early", b"", START_MS + 1000)
    store.tick(START_MS + 60_000)
    assert store.expire_cycle(never) is True
    store.tick(START_MS + 50_000)
    for second in range(51, 58):
        keyspace.put(b"key:%d" % second, b"", START_MS + second * 1000)
    keyspace.put(b"late", b"", START_MS + 100_000)
    for second in range(51, 58):
        if expired_before:
            store.expire_cycle(never)
        store.tick(START_MS + second * 1000)
        keyspace.check()
        assert keyspace.live_count() == 58 - second
        assert keyspace.string(b"key:%d" % second) is None
    store.tick(START_MS + 70_000)
    assert store.expire_cycle(never)
    assert list(keyspace.entries) == [b"late"]


def test_keys_are_deleted_in_time_after_the_clock_was_set_back_an_hour() -> None:
    """Else what comes and goes within that hour, and nobody reads again, would pile up until it is over."""
    store = make_store()
    keyspace = store.databases[0]
    keyspace.put(b"before", b"", START_MS + 10_000)
    store.tick(START_MS + 5000)
    assert store.expire_cycle(never)
    store.tick(START_MS + 5000 - 3_600_000)
    keyspace.put(b"after", b"", store.now_ms + 1000)
    store.tick(store.now_ms + 3000)
    assert store.expire_cycle(never)
    keyspace.check()
    assert list(keyspace.entries) == [b"before"]
    assert not keyspace.expiry.is_due
    store.tick(START_MS + 12_000)
    assert store.expire_cycle(never)
    assert not keyspace.entries


def test_what_was_flushed_is_freed_in_slices() -> None:
    store = make_store()
    for number in range(10_000):
        store.databases[0].put(name(number), b"", START_MS + number)
    store.flush_all()
    left = []
    while not store.expire_cycle(after(1)):
        left.append(sum(map(len, store.garbage)))
    assert max(more - less for more, less in pairwise(left)) <= SLICE
    assert len(left) > 3 * 10_000 // SLICE


def churn_by_set_and_delete(keyspace: Keyspace, step: int) -> None:
    keyspace.put(name(step % 10), b"", keyspace.store.now_ms + 3_600_000)
    keyspace.remove(name(step % 10))


def churn_by_coming_nearer(keyspace: Keyspace, step: int) -> None:
    keyspace.put(b"key", b"", START_MS + 20_000_000 - step * 100)


def churn_by_going_to_and_fro(keyspace: Keyspace, step: int) -> None:
    keyspace.put(b"key", b"", START_MS + 50_000_000)
    keyspace.put(b"key", b"", START_MS + 40_000_000 + step * 100)


def churn_far_away(keyspace: Keyspace, step: int) -> None:
    keyspace.put(name(step % 1000), b"", START_MS + FAR_SECONDS * 3000 + 5000 - step % 7 * 1000)
    keyspace.put(name(step % 1000), b"", START_MS + FAR_SECONDS * 3000 + 6000 + step % 5 * 1000)


def churn_at_random(keyspace: Keyspace, step: int) -> None:
    """Ask for another second each time, as far away as can be."""
    keyspace.put(b"key", b"", START_MS + keyspace.store.random.randrange(2**62))
    keyspace.remove(b"key")


@for_each("has_housekeeping", [True, False])
@for_each(
    "churn",
    [churn_by_set_and_delete, churn_by_coming_nearer, churn_by_going_to_and_fro, churn_far_away, churn_at_random],
)
def test_stale_entries_of_due_stay_bounded(churn: Callable[[Keyspace, int], None], has_housekeeping: bool) -> None:
    store = make_store()
    keyspace = store.databases[0]
    most = 0
    for step in range(20_000):
        churn(keyspace, step)
        if step % 100 == 0:
            if has_housekeeping:
                store.tick(store.now_ms + 1)
                store.expire_cycle(after(20))
            most = max(most, sum(map(len, keyspace.expiry.due.values())))
            keyspace.check()
    assert most < 2 * keyspace.expiry.volatile_count + 2 * FEW_STALE
    while not store.expire_cycle(after(20)):
        pass
    assert sum(map(len, keyspace.expiry.due.values())) <= 2 * keyspace.expiry.volatile_count + FEW_STALE
    keyspace.check()


def test_an_add_cleans_only_a_few_entries() -> None:
    keyspace = make_store().databases[0]
    for number in range(10_000):
        keyspace.put(name(number), b"", START_MS + number * 100)
    for number in range(10_000):
        keyspace.remove(name(number))
    adds = 0
    while sum(map(len, keyspace.expiry.due.values())) > FEW_STALE:
        keyspace.put(b"key", b"", START_MS + 3_600_000)
        keyspace.remove(b"key")
        adds += 1
    assert 10_000 // SLICE <= adds <= 10_000 // CLEANED_AN_ADD


def test_deadlines_that_are_far_apart_share_buckets() -> None:
    keyspace = make_store().databases[0]
    for number in range(20_000):
        keyspace.put(name(number), b"", START_MS + DAY_MS + keyspace.store.random.randrange(2**62))
    assert len(keyspace.expiry.due) < 64 * FAR_BUCKETS
    keyspace.check()


@pytest.mark.parametrize("life_s", [FAR_SECONDS - 1, 2 * FAR_SECONDS, 100 * FAR_SECONDS, 3000 * FAR_SECONDS])
def test_a_far_deadline_is_met_to_the_second(life_s: int) -> None:
    store = make_store()
    keyspace = store.databases[0]
    keyspace.put(b"key", b"", START_MS + life_s * 1000)
    left_s = life_s
    while left_s > 1:  # half of what is left at a time: as many moves as there can be
        left_s //= 2
        store.tick(START_MS + (life_s - left_s) * 1000)
        assert store.expire_cycle(never)
        keyspace.check()
        assert keyspace.entries
    store.tick(START_MS + (life_s + 1) * 1000)
    assert store.expire_cycle(never)
    assert not keyspace.entries


def test_places_of_deleted_keys_stay_bounded() -> None:
    keyspace = make_store().databases[0]
    for number in range(1000):
        keyspace.put(name(number), b"", NO_DEADLINE)
    longest = 0
    for number in range(1000, 30_000):
        keyspace.put(name(number), b"", NO_DEADLINE)
        keyspace.remove(name(number - 1000))
        longest = max(longest, len(keyspace.key_order))
    assert longest < 2000
    keyspace.check()


def test_a_deleted_key_that_comes_back_costs_nothing() -> None:
    keyspace = make_store().databases[0]
    for _ in range(10_000):
        keyspace.put(b"key", b"", NO_DEADLINE)
        keyspace.remove(b"key")
    assert len(keyspace.key_order) == 1
    keyspace.check()


def test_a_scan_returns_what_stays_whatever_comes_and_goes() -> None:
    random = Random(5)
    for _ in range(30):
        keyspace = make_store().databases[0]
        owed = {b"stays:%d" % number for number in range(200)}
        passing = [name(number) for number in range(800)]
        for key in random.sample([*owed, *passing], 1000):
            keyspace.put(key, b"", NO_DEADLINE)
        cursor, seen, calls = 0, set(), 0
        while calls == 0 or cursor:
            cursor, found = keyspace.scan(cursor, 10)
            seen.update(found)
            calls += 1
            for key in random.sample(passing, 15):
                if random.random() < 0.4:
                    keyspace.put(key, b"", NO_DEADLINE)
                else:
                    keyspace.remove(key)
        assert owed <= seen
        assert calls <= 100
        keyspace.check()


def test_databases_may_be_swapped_while_stale_entries_are_thrown_out() -> None:
    store = make_store(2)
    left, right = store.databases
    for keyspace in (left, right):
        for step in range(3000):
            churn_by_set_and_delete(keyspace, step)
        keyspace.put(b"key", b"", START_MS + 5000)
    store.expire_cycle(after(5))
    left.swap(right)
    while not store.expire_cycle(after(5)):
        left.check()
        right.check()
    assert left.is_live(b"key")
    assert sum(map(len, left.expiry.due.values())) <= 1002


# ---- reading


def test_a_random_key_is_any_key() -> None:
    keyspace = make_store().databases[0]
    for number in range(200):
        keyspace.put(name(number), b"", NO_DEADLINE)
    for number in range(190):
        keyspace.remove(name(number))
    drawn = [keyspace.random_key() for _ in range(1000)]
    counts = {key: drawn.count(key) for key in drawn}
    assert counts.keys() == {name(number) for number in range(190, 200)}
    assert min(counts.values()) > 50


def test_reads_are_counted_as_hits_and_misses() -> None:
    store = make_store()
    keyspace = store.databases[0]
    keyspace.put(b"key", b"value", START_MS + 1)
    for read in (keyspace.string, keyspace.read, keyspace.look):
        read(b"key")
        read(b"nokey")
    keyspace.get(b"key")
    keyspace.peek(b"nokey")
    assert (store.hits, store.misses) == (3, 3)
    store.tick(START_MS + 1)
    keyspace.string(b"key")
    assert (store.hits, store.misses) == (3, 4)


def test_a_value_of_another_type_is_no_string() -> None:
    keyspace = make_store().databases[0]
    keyspace.put(b"key", [], NO_DEADLINE)
    with pytest.raises(CommandError, match="WRONGTYPE"):
        keyspace.string(b"key")


def test_idle_time_counts_from_the_last_use() -> None:
    store = make_store()
    keyspace = store.databases[0]
    keyspace.put(b"key", b"value", NO_DEADLINE)
    store.tick(START_MS + 5000)
    assert keyspace.idle_seconds(b"key") == 0  # nobody had asked before
    store.tick(START_MS + 9000)
    keyspace.look(b"key")
    assert keyspace.idle_seconds(b"key") == 4
    assert keyspace.string(b"key") == b"value"
    assert keyspace.idle_seconds(b"key") == 0
    store.tick(START_MS + 12_000)
    assert keyspace.idle_seconds(b"key") == 3
    keyspace.put(b"key", b"value", NO_DEADLINE)
    assert keyspace.idle_seconds(b"key") == 0


def test_replay_expires_nothing() -> None:
    store = make_store()
    keyspace = store.databases[0]
    store.begin_replay(START_MS)
    keyspace.put(b"key", b"value", START_MS - 1000)
    assert keyspace.get(b"key") == b"value"
    assert keyspace.live_count() == 1
    assert store.expire_cycle(never)
    store.tick(START_MS)
    assert keyspace.live_count() == 0
    assert store.expire_cycle(never)
    assert not keyspace.entries


def test_a_clock_before_1970_makes_no_deadline_that_no_log_could_hold() -> None:
    store = Store(1, RecordedLog(), Random(0))
    store.default_ttl_ms = 0
    store.tick(-(10**12))
    store.tick(-5)
    assert store.now_ms > 0
    store.default_ttl_ms = 1
    store.tick(-5)
    assert store.default_deadline_ms > 0
