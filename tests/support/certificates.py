"""Certificates for the tests of TLS, made by openssl: an authority, who it vouches for, and strangers.

Keys are on P-256, since those of RSA take a second to make.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

from servers import PATIENCE_SECONDS, require

KEY_PASSWORD = "of the key"
CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]


class Certificates:
    """A directory with `authority.crt`, and `NAME.crt` and `NAME.key` of everybody below."""

    def __init__(self, directory: Path) -> None:
        require(shutil.which("openssl"), "openssl is not installed")
        self.directory = directory
        self.make_authority("authority")
        self.make_authority("foreign-authority")
        self.sign("server", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.sign("renewed", "subjectAltName=DNS:localhost,IP:127.0.0.1")
        self.sign("server-only", "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:elsewhere.example")
        self.sign("client", "extendedKeyUsage=clientAuth")
        self.sign("foreign-client", "extendedKeyUsage=clientAuth", "foreign-authority")
        self._openssl(
            *["pkey", "-in", self.key("server"), "-aes256", "-passout", f"pass:{KEY_PASSWORD}"],
            *["-out", self.key("locked")],
        )

    def cert(self, name: str) -> str:
        return str(self.directory / f"{name}.crt")

    def key(self, name: str) -> str:
        return str(self.directory / f"{name}.key")

    def serial_number(self, name: str) -> str:
        """Return the serial number of a certificate as Python shows that of a peer."""
        return self._openssl("x509", "-in", self.cert(name), "-noout", "-serial").strip().removeprefix("serial=")

    def make_authority(self, name: str) -> None:
        subject = ["-subj", f"/CN={name}", "-days", "2", "-addext", "keyUsage=critical,keyCertSign"]
        files = ["-keyout", self.key(name), "-out", self.cert(name)]
        self._openssl("req", "-x509", *CURVE, "-nodes", *subject, *files)

    def sign(self, name: str, extensions: str, authority: str = "authority") -> None:
        request, extension_file = self.directory / f"{name}.csr", self.directory / f"{name}.extensions"
        extension_file.write_text(extensions + "\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
        self._openssl("req", *CURVE, "-nodes", "-subj", f"/CN={name}", "-keyout", self.key(name), "-out", str(request))
        signer = ["-CA", self.cert(authority), "-CAkey", self.key(authority), "-CAcreateserial", "-days", "2"]
        files = ["-extfile", str(extension_file), "-out", self.cert(name)]
        self._openssl("x509", "-req", "-in", str(request), *signer, *files)

    def client_context(self, name: str | None = "client", authority: str = "authority") -> ssl.SSLContext:
        """Make what a client with this certificate, or with none, needs; it trusts one authority."""
        context = ssl.create_default_context(cafile=self.cert(authority))
        if name is not None:
            context.load_cert_chain(self.cert(name), self.key(name))
        return context

    def _openssl(self, *words: str) -> str:
        done = subprocess.run(
            ["openssl", *words], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout
