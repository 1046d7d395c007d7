"""Certificates of the stand-in: a private root, and leaves below it that are right or wrong in one way."""

import os
import subprocess

DAY = 86400


def _openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True, stdin=subprocess.DEVNULL)


class Authority:
    """A root certificate and the leaves that it signs, as PEM files in `directory`."""

    def __init__(self, directory, name="root"):
        os.makedirs(directory, exist_ok=True)
        self.directory = directory
        self.name = name
        self.certificate = os.path.join(directory, f"{name}.pem")
        self.key = os.path.join(directory, f"{name}.key")
        if not os.path.exists(self.certificate):
            # Valid whatever a test sets the clock of a device to, so that it is the leaf that says no.
            self._sign(
                name, f"Cloud stand-in {name}", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign",
                -20 * 365, 40 * 365, "-selfsign")
            os.rename(os.path.join(directory, f"{name}.crt"), self.certificate)
        with open(self.certificate, encoding="ascii") as file:
            self.pem = file.read()

    def leaf(self, name="leaf", subject="localhost", names="DNS:localhost,IP:127.0.0.1,IP:::1", start=-1, days=825):
        """Paths of a chain and a key; `start` and `days` in days from now make it expired or not yet valid."""
        key = os.path.join(self.directory, f"{name}.key")
        chain = os.path.join(self.directory, f"{name}.chain")
        self._sign(name, subject, f"basicConstraints=CA:FALSE\nsubjectAltName={names}", start, days)
        with open(os.path.join(self.directory, f"{name}.crt"), encoding="ascii") as file:
            text = file.read()
        with open(chain, "w", encoding="ascii") as file:
            file.write(text + self.pem)
        return chain, key

    def _sign(self, name, subject, extensions, start, days, *more):
        """Makes a key, and a certificate of this authority for it, below `name`."""
        config = os.path.join(self.directory, f"{name}.cnf")
        with open(config, "w", encoding="ascii") as file:
            file.write(
                "[ca]\ndefault_ca=a\n[a]\nnew_certs_dir=.\ndatabase=%s.index\nserial=%s.serial\n"
                "default_md=sha256\npolicy=p\nx509_extensions=x\nunique_subject=no\n[p]\ncommonName=supplied\n"
                "[x]\n%s\n" % (name, name, extensions))
        with open(os.path.join(self.directory, f"{name}.index"), "w", encoding="ascii"):
            pass
        with open(os.path.join(self.directory, f"{name}.serial"), "w", encoding="ascii") as file:
            file.write(os.urandom(8).hex() + "\n")
        _openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key",
            "-out", f"{name}.csr", "-subj", f"/CN={subject}", cwd=self.directory)
        issuer = [] if more else ["-cert", f"{self.name}.pem"]
        _openssl(
            "ca", "-batch", "-config", config, *issuer, "-keyfile", f"{self.name}.key", *more,
            "-in", f"{name}.csr", "-out", f"{name}.crt", "-notext", "-startdate", _date(start),
            "-enddate", _date(start + days), cwd=self.directory)


def _date(days):
    import time

    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + days * DAY))


class TokenSigner:
    """Signs registry tokens (Docker token authentication) with an RSA key that the registry knows."""

    def __init__(self, directory):
        os.makedirs(directory, exist_ok=True)
        self.key = os.path.join(directory, "token.key")
        self.certificate = os.path.join(directory, "token.pem")
        if not os.path.exists(self.certificate):
            _openssl(
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", self.key, "-out", self.certificate,
                "-days", "3650", "-subj", "/CN=stand-in token", cwd=directory)
        with open(self.certificate, encoding="ascii") as file:
            self.body = "".join(line.strip() for line in file if not line.startswith("-----"))

    def sign(self, claims):
        import base64
        import json

        def encode(data):
            return base64.urlsafe_b64encode(data).rstrip(b"=")

        header = {"typ": "JWT", "alg": "RS256", "x5c": [self.body]}
        text = b".".join(encode(json.dumps(part).encode()) for part in (header, claims))
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key], input=text, check=True, capture_output=True).stdout
        return (text + b"." + encode(signature)).decode()
