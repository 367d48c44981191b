"""An instance as a member of a pool: many instances, one log in etcd, the same keys in all of them.

`docs/pool.md` says what is promised, and how a write goes. Imports go down this list, and right:

    server              clients: their writes park until the log brings them back; a linearizable read asks first
      pool              the greenlets between clients and etcd: join, follow the log, how far it goes, watch over it
        recovery        what an instance begins with
          archive       snapshots in etcd, and the trim of the log -> local_snapshot: one in a file of this machine
                        -> neighbours: what other pools of this etcd need; documents: JSON that may be anybody's
            replica     what the log makes of a store: clock, order, once; no network -> snapshot: its form
        writes          the queue of writes -> post: a put until its outcome is known
          entry         the format of what is put; clock: the time that it brings
        members         leases: who is there
        room            the memory that keys may take
        reads           who waits until all that was acknowledged is here
        watchdog        the end of an instance that stands still; pace: what takes long gives way to clients
          etcd          the client of etcd's JSON gateway, for all of them

Of these, `pool`, `archive`, `members`, `reads`, `pace`, `writes`, `post` and `etcd` know gevent; `replica`,
`entry` and `snapshot` know neither time nor chance. An instance imports this package when it joins a pool, and not
before. So nothing is imported here: one that is alone pays nothing.
"""
