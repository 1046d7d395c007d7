"""Nothing that the agents produce has a secret in it, except where the secret belongs.

While the tests run, `secret` takes each key, password and token that is used, and `produced` takes what the agents have
answered to anybody and sent to their clouds. At the end `Findings` looks for every secret, plain and in Base64, in that,
in all files that the agents have left (their logs, what they keep for the next start), in the journal, and in the logs of the
engine and the registries. A finding names file, line and secret, and not the secret's value; `around` shows what stands
around it.
"""

import base64
import hashlib
import json
import os
import re
import sqlite3
import subprocess

SHORTEST = 8
# A run of one letter is found where nobody has told a key.
FEWEST_CHARACTERS = 6
# Where a secret belongs: the configuration, the database (also on the disk of a test), former identities, what was
# last reported, and the proxy; `.new` is what an agent that was killed had begun to write.
KEEPERS = re.compile(
    r"/\.?config\.json(\.[\w-]+)*$|/[\w.-]*\.sqlite(-wal|-shm)?([.-]\w+)*$|/former-identities\.json(\.new)?$"
    r"|/state-report-cache(\.new)?$"
    r"|/\.?redsocks\.conf(\.[\w-]+)*$|/disk\.img$")
# Of these, what only an agent makes.
OWN_KEEPERS = re.compile(r"/config\.json\.last-good$|/former-identities\.json(\.new)?$|/state-report-cache(\.new)?$")
# Answers whose purpose is a secret (chapters of the API and of the host): a new key, and the proxy as it is configured.
HAND_OUT = (("POST", "/v1/regenerate-api-key"), ("GET", "/v1/device/host-config"))
# Fields of requests to the cloud whose purpose is a key (chapter of the cloud 1.4, 3.1).
REPORTED = re.compile(rb'"(?:api_secret|api_key|apiKey)" ?: ?"[^"]*"')
ENVIRONMENT_KEY = re.compile(r'"(?:BALENA|RESIN)(?:_SUPERVISOR)?_API_KEY=([^"]+)"')

AROUND = 100
WRITER = ("SYSLOG_IDENTIFIER", "CONTAINER_NAME", "_COMM", "_PID", "__REALTIME_TIMESTAMP")

_secrets = {}
_seen = set()
_base = None


def begin(directory):
    """From now on what is produced is kept below `directory`; before that nothing is."""
    global _base
    _base = os.path.join(directory, "produced")
    os.makedirs(_base, exist_ok=True)
    _secrets.clear()
    _seen.clear()


def secret(name, value):
    """A secret by the name that a finding has for it."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str) and len(value) >= SHORTEST:
        if len(set(value)) < FEWEST_CHARACTERS:
            raise ValueError(f"the {name} of this test has too few different characters to be looked for")
        _secrets.setdefault(value, name)


def produced(kind, title, content):
    """What an agent gave to somebody: `title` says what it was; the same again is not kept again."""
    if _base is None:
        return
    content = content.encode() if isinstance(content, str) else content
    mark = hashlib.sha256(title.encode() + b"\0" + content).digest()
    if mark not in _seen:
        _seen.add(mark)
        with open(os.path.join(_base, kind), "ab") as file:
            file.write(f"[{title}] ".encode() + content.replace(b"\n", b"\\n") + b"\n")


def answer(method, path, status, head, content):
    """An answer of an agent's API."""
    path = path.partition("?")[0]
    if path == "/v1/regenerate-api-key" and status == 200:
        secret("key of the device's API", content)
    if (method, path) in HAND_OUT and status == 200:
        return
    produced("answers", f"{method} {path} {status}", head.encode() + b" " + content)


def sent(method, path, head, content):
    """A request of an agent to its cloud, or a record of its log stream."""
    produced("cloud", f"{method} {path}", head.encode() + b" " + REPORTED.sub(b"", content))


def of_environment(text):
    """Keys in the environment of a container, as the engine tells it."""
    for value in ENVIRONMENT_KEY.findall(text):
        secret("key in a container's environment", value)


def of_configuration(path):
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError):
        return
    if isinstance(content, dict):
        secret("deviceApiKey", content.get("deviceApiKey"))
        secret("provisioning key", content.get("apiKey"))
        keys = content.get("deviceApiKeys")
        for value in keys.values() if isinstance(keys, dict) else ():
            secret("one of deviceApiKeys", value)


def of_database(path):
    if not os.path.exists(path):
        return
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", timeout=1, uri=True)
        try:
            for app, service, value in connection.execute("SELECT app_id, service_name, key FROM api_key"):
                secret(f"key of app {app}, service {service}" if app else "key of the device's API", value)
        finally:
            connection.close()
    except sqlite3.Error:
        # Some tests damage it.
        pass


def forms(value):
    """The secret as it stands in a text, and the part of its Base64 that does not depend on what is around it."""
    yield value
    yield json.dumps(value)[1:-1]
    if len(value) < 2 * SHORTEST:
        return
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + value.encode()).decode().rstrip("=")
        yield text[(0, 2, 3)[shift]:-1]


class Findings:
    """What a search has found, as lines `FILE:LINE: NAME`, and over how much it went."""

    def __init__(self, directory, journal=None, secrets=None):
        secrets = _secrets if secrets is None else secrets
        self.names = {form: name for value, name in secrets.items() for form in forms(value)}
        self.secrets = len(secrets)
        self.size = 0
        self.lines = []
        self.around = {}
        if not secrets:
            return
        if journal:
            with open(os.path.join(directory, "produced", "journal"), "wb") as file:
                subprocess.run(["journalctl", "--directory", journal, "--no-pager", "-o", "json", "--all"],
                               stdout=file, stderr=subprocess.DEVNULL, check=False)
        pattern = os.path.join(directory, "secrets")
        with open(pattern, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.writelines(f"{form}\n" for form in self.names)
        try:
            self._search(directory, pattern)
        finally:
            os.unlink(pattern)

    def _search(self, directory, pattern):
        files = sorted(self._files(directory))
        self.size = sum(os.path.getsize(path) for path in files)
        for path in self._all(directory, "agents"):
            if OWN_KEEPERS.search(path) and os.stat(path).st_mode & 0o077:
                self.lines.append(f"{os.path.relpath(path, directory)}: others may read it")
        for first in range(0, len(files), 500):
            done = subprocess.run(
                ["grep", "-aHnoF", "-f", pattern, "--", *files[first:first + 500]],
                capture_output=True, check=False, env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
            if done.returncode > 1:
                self.lines.append(f"the search failed: {done.stderr.decode(errors='replace')}")
            for line in done.stdout.decode(errors="replace").splitlines():
                place, number, form = line.split(":", 2)
                found = f"{os.path.relpath(place, directory)}:{number}: {self.names.get(form, 'a secret')}"
                if found not in self.lines:
                    self.lines.append(found)
                    self.around[found] = self._around(place, int(number), form)

    def _around(self, place, number, form):
        """What stands around a finding, and of an entry of the journal who wrote it; without any secret."""
        with open(place, "rb") as file:
            line = next((line for index, line in enumerate(file, 1) if index == number), b"")
        text = line.decode(errors="replace")
        start = max(text.find(form), 0)
        shown = text[max(start - AROUND, 0):start + len(form) + AROUND].rstrip("\n")
        try:
            entry = json.loads(text)
            writer = {name: entry[name] for name in WRITER if name in entry}
            shown = f"{writer} {shown}" if writer else shown
        except (ValueError, TypeError):
            pass
        for other in sorted(self.names, key=len, reverse=True):
            shown = shown.replace(other, "***")
        return shown

    @classmethod
    def _files(cls, directory):
        """What the agents have left, what was kept of what they said, and the logs of the programs around them."""
        for part in ("produced", "agents", "engine", "registry", "registry-auth", "clouds"):
            for path in cls._all(directory, part):
                if part in ("produced", "agents") or path.endswith(".log"):
                    if not KEEPERS.search(path):
                        yield path

    @staticmethod
    def _all(directory, part):
        for place, folders, names in os.walk(os.path.join(directory, part)):
            if part == "engine":
                folders.clear()
            for name in names:
                path = os.path.join(place, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    yield path
