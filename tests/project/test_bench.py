"""Each measurement of bench/ runs and makes its table: small and short, so that what it says of speed means nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from servers import ROOT, require

SOAK = "GODIS_SOAK" in os.environ  # a pool takes ten seconds to come up and go
RUNS = [
    "always --rounds 1 --seconds 0.1 --depths 1",
    "compare --rounds 1 --seconds 0.01 --keyspace 100 --clients 2 --depths 2 --tests set,text-get,release",
    "compare --rounds 1 --seconds 0.01 --keyspace 100 --clients 2 --depths 2 --tests rpop,hgetall_10,setbit,count",
    "compare --rounds 1 --seconds 0.01 --keyspace 100 --clients 2 --depths 2 --tests publish_1,multi_5,blpop",
    "growth --sizes 20,40 --seconds 0.001",
    "footprint --keys 100 --types",
    "latency --pairs 1 --rounds 1 --seconds 0.05 --rate 500 --keys 100 --clients 2",
    "footprint --keys 100 --connections 2 --seconds 0.01",
    "replay --commands 100 --rounds 1",
    "start --rounds 1 --keys 10",
    "stalls --keys 100 --seconds 0.02",
    "rewrite --keys 100 --seconds 0.1",
    "eviction hits --reads 1000",
    "large_value --elements 2000 --seconds 0.02",
    "large_value copies --elements 1000",
    "hostile --rounds 1 --seconds 0.05 --only POSTs",
    "hostile --turns --seconds 0.05 --only POSTs",
    "micro --rounds 1 --requests 10",
    *(
        [
            "pool --rounds 1 --seconds 0.01 --keyspace 100 --systems alone,one --watch-seconds 0.5 --keys 100",
            "pool_stalls --only nothing",
        ]
        if SOAK
        else []
    ),
]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.split()[0])
def test_a_measurement_makes_its_table(run: str, tmp_path: Path) -> None:
    for program in ("redis-server", "redis-benchmark", "taskset", *(["etcd"] if run.startswith("pool") else [])):
        require(shutil.which(program), f"{program} is not installed")
    require(len(os.sched_getaffinity(0)) > 1, "needs two cores")
    module, *arguments = run.split()
    report = tmp_path / "report.md"
    command = [sys.executable, "-m", f"bench.{module}", *arguments, "--output", str(report)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert report.read_text() == done.stdout
    assert "|---:|" in done.stdout
