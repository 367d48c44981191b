"""Ways into an etcd: clients by endpoint, passwords, tokens and certificates."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from rig.etcd_cluster import EtcdNode
from servers import require

from config import Endpoint, PoolAddress
from pool.etcd import Etcd


def etcd_at(*endpoints: str, user: str = "", password: str = "", context: Any = None) -> Etcd:
    places = tuple(Endpoint(host, int(port)) for host, _, port in (place.rpartition(":") for place in endpoints))
    return Etcd(PoolAddress(places, "/test", user, password, context is not None), context)


def jwt_flag(directory: Path) -> str:
    """Return the flag of an etcd whose tokens are signed and so end with the next change of a user."""
    (directory / "jwt.key").write_bytes(bytes(range(64)))
    return f"--auth-token=jwt,priv-key={directory / 'jwt.key'},sign-method=HS256,ttl=1h"


def lock_with_password(node: EtcdNode) -> Etcd:
    """Make root the user of an etcd, and switch authentication on; return its login."""
    node.call("auth/user/add", {"name": "root", "password": "secret"})
    node.call("auth/user/grant", {"user": "root", "role": "root"})
    node.call("auth/enable", {})
    return etcd_at(node.endpoint, user="root", password="secret")


def make_certificates(directory: Path) -> None:
    """Make an authority, and a certificate of 127.0.0.1 for servers and clients."""
    require(shutil.which("openssl"), "openssl is not installed")
    (directory / "ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    new = "openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    for command in (
        f"{new} -x509 -subj /CN=authority -keyout ca.key -out ca.pem -days 9",
        f"{new} -subj /CN=root -keyout node.key -out node.csr",
        "openssl x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out node.pem -days 9 -extfile ext",
    ):
        subprocess.run(command.split(), cwd=directory, check=True, capture_output=True)
