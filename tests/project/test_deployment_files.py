"""What the Dockerfile, the compose file and nginx.conf say, checked without a container engine.

How they work is shown by test_balancer.py and, with a real engine, by containers/test_containers.py.
"""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rig.pool import NGINX_CONF, nginx_program
from servers import GODIS, ROOT

DOCKERFILE = ROOT / "Dockerfile"
COMPOSE_FILE = ROOT / "compose" / "docker-compose.yml"
STANDALONE_FILE = ROOT / "compose" / "docker-compose.standalone.yml"
PASSWORD_FILE = ROOT / "compose" / "password.yml"
MODULES_THAT_ARE_IMPORTED = """
import pathlib, sys
sys.path.insert(0, {root!r})
import godis, cli.log_tools, server, pool.network
root = pathlib.Path({root!r})
files = [pathlib.Path(module.__file__) for module in list(sys.modules.values()) if getattr(module, "__file__", None)]
ours = [file for file in files if file.is_relative_to(root) and file.relative_to(root).parts[0][0] != "."]
print(*[file.relative_to(root) for file in ours], sep="\\n")
"""


def instructions(name: str) -> list[str]:
    """Return the arguments of each instruction of that name in the Dockerfile, continued lines joined."""
    joined = DOCKERFILE.read_text().replace("\\\n", " ")
    return re.findall(rf"^{name} +(.*)", joined, re.MULTILINE)


def is_sent_to_the_builder(path: str) -> bool:
    """Apply .dockerignore: the last pattern that fits decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        parts = Path(path).parts
        candidates = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        if pattern.startswith("**/"):
            fits = any(fnmatch.fnmatch(part, pattern[3:]) for part in parts)
        else:
            fits = any(c.count("/") == pattern.count("/") and fnmatch.fnmatch(c, pattern) for c in candidates)
        if fits:
            sent = line.startswith("!")
    return sent


def test_image_gets_every_module_that_the_program_imports() -> None:
    program = MODULES_THAT_ARE_IMPORTED.format(root=str(ROOT))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/")
    imported = done.stdout.split()
    assert {"godis.py", "store.py", "commands/__init__.py", "pool/replica.py", "values/row.py"} <= set(imported)
    copied = [source for line in instructions("COPY") for source in line.split()[:-1]]
    for module in imported:
        assert any(fnmatch.fnmatch(Path(module).parts[0], source) for source in copied), module
        assert is_sent_to_the_builder(module), module


@pytest.mark.parametrize(
    "path",
    [
        "log.txt",
        "log.txt.torn",
        "tests/support/servers.py",
        ".venv/bin/python",
        ".git/config",
        "commands/__pycache__/keys.pyc",
    ],
)
def test_image_gets_no_log_no_test_and_nothing_of_a_developers_machine(path: str) -> None:
    assert not is_sent_to_the_builder(path)


def test_dockerfile_builds_without_buildx() -> None:
    assert "syntax=" not in DOCKERFILE.read_text()
    lines = instructions("RUN") + instructions("COPY")
    assert lines
    assert not [line for line in lines if re.search(r"--mount|--link|--chmod|<<", line)]


def test_dockerfile_runs_as_a_numeric_user_who_does_not_own_the_code() -> None:
    assert instructions("USER") == ["10001:10001"]
    assert not any("--chown" in line for line in instructions("COPY"))
    assert instructions("WORKDIR")[-1] != instructions("VOLUME")[0] == "/data"


def test_base_images_are_pinned_to_a_minor_version() -> None:
    compose_images = re.findall(r"^ +image: (\S+:\S+)", COMPOSE_FILE.read_text(), re.MULTILINE)
    images = {line.split()[0] for line in instructions("FROM")} | set(compose_images)
    assert len(images) == 3, images
    assert all(re.search(r":(\d+\.\d+-\w+|v\d+\.\d+\.\d+)$", image) for image in images), images


def test_each_setting_of_the_image_and_the_compose_file_is_one_that_the_program_knows() -> None:
    named = set(re.findall(r"\bGODIS_\w+", " ".join(instructions("ENV"))))
    for file in (COMPOSE_FILE, PASSWORD_FILE, STANDALONE_FILE):
        named |= set(re.findall(r"\bGODIS_\w+(?=:\s)", file.read_text()))
    assert {"GODIS_HOST", "GODIS_LOG", "GODIS_PROTECTED_MODE", "GODIS_POOL", "GODIS_POOL_READS"} <= named
    usage = subprocess.run([sys.executable, GODIS, "--help"], capture_output=True, text=True, check=True).stdout
    for name in named:
        flag = "--" + name.removeprefix("GODIS_").lower().replace("_", "-")
        assert flag in usage, name


def test_compose_publishes_on_loopback_only_and_a_password_only_comes_from_a_secret() -> None:
    password = PASSWORD_FILE.read_text()
    for file in (COMPOSE_FILE, STANDALONE_FILE):
        published = re.findall(r'^ +- "([^"]*:\d+)"$', file.read_text(), re.MULTILINE)
        assert published == ["127.0.0.1:${GODIS_PUBLISHED_PORT:-6379}:6379"]
        assert file.read_text().count("ports:") == 1
        assert "REQUIREPASS" not in file.read_text()
    assert "ports:" not in password
    assert re.findall(r"GODIS_REQUIREPASS\w*: (\S+)", password) == ["/run/secrets/godis_password"]


def test_image_takes_flags_behind_its_name_and_the_health_check_gets_them() -> None:
    assert instructions("ENTRYPOINT") == ['["python", "godis.py"]']
    assert not [line for line in DOCKERFILE.read_text().splitlines() if line.startswith("CMD")]
    (check,) = instructions("HEALTHCHECK")
    script = json.loads(check.partition("CMD ")[2])[2]
    for command in (["python", "godis.py"], ["/sbin/docker-init", "--", "python", "godis.py"]):
        line = "\0".join([*command, "--port", "7000", "--requirepass", "two words", ""])
        asked = subprocess.run(
            ["sh", "-c", script.replace("/proc/1/cmdline", "-").replace("python godis.py", "printf '%s;'")],
            input=line,
            capture_output=True,
            text=True,
            check=True,
        )
        assert asked.stdout == "ping;--port;7000;--requirepass;two words;"


@pytest.mark.parametrize("file", [COMPOSE_FILE, STANDALONE_FILE], ids=lambda file: file.name)
def test_logs_of_containers_are_bounded(file: Path) -> None:
    said = file.read_text()
    restarts = said.count("restart: unless-stopped")  # each service has that, or takes it from x-etcd
    assert restarts
    assert (
        len(re.findall(r"^ +logging: (?:\*logging|\{ driver: local, options: \{ max-size)", said, re.MULTILINE))
        == restarts
    )
    assert re.search(r"driver: local,?\s+options: \{ max-size: \d+m, max-file: \"\d\" \}", said)


def test_etcd_forgets_nothing_by_itself_and_may_grow_as_large_as_it_can() -> None:
    said = COMPOSE_FILE.read_text()
    assert re.findall(r'ETCD_AUTO_COMPACTION_RETENTION: "(\d+)"', said) == ["0"]
    assert re.findall(r'ETCD_QUOTA_BACKEND_BYTES: "(\d+)"', said) == [str(8 << 30)]
    nodes = re.findall(r"ETCD_NAME: (\w+)", said)
    assert nodes == ["etcd1", "etcd2", "etcd3"]
    assert all(f'["{node}:/var/lib/etcd"]' in said for node in nodes)
    assert re.findall(r"GODIS_POOL: (\S+)", said) == ["etcd://" + ",".join(f"{node}:2379" for node in nodes)]


def test_nginx_accepts_its_configuration_without_a_warning(tmp_path: Path) -> None:
    check = [nginx_program(), "-t", "-q", "-e", "stderr", "-p", f"{tmp_path}/", "-c", str(NGINX_CONF)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
