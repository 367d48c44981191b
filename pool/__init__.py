"""An instance as a member of a pool: many instances, one log in etcd, the same keys in all of them.

`docs/pool.md` says what a pool promises, and which way a write takes. Imports go down this list, and right:

    network             client connections: a write parks until its entry is applied; a linearizable read asks etcd
      pool              the greenlets between clients and etcd: join, follow the log, confirm its length, supervise
        recovery        loads the keys that an instance starts with
          snapshot_store  snapshots in etcd, and the trim of the log -> snapshot_file: a snapshot in a local file
                        -> neighbours: the history that other pools of this etcd need; documents: checked JSON
            replica     applies entries to the store: clock, order, exactly once -> snapshot_format: its stream
        writes          the queue of writes -> appender: repeats a put until its outcome is known
          entry         the format of an entry; clock: the time that an entry carries
        members         leases, and the list of instances
        room            the memory that keys may take
        reads           linearizable reads that wait for the log's entries
        watchdog        ends an instance whose event loop stands still; pace: pauses in long work
          etcd          the client of etcd's JSON gateway, which all of them use

`tests/project/test_layering.py` lists the modules that know gevent. `replica`, `entry` and `snapshot_format` read no
clock and use no random numbers of their own. An instance imports this package only when it joins a pool, and this
module imports nothing: an instance that runs alone pays nothing.
"""
