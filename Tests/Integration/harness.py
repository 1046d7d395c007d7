"""The device under test: the real agent binary on a real engine, each test with its own directories and port."""

import http.client
import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.parse

import disclosure

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
IMAGE = "test-image:1"
OTHER_IMAGE = "test-image:2"
CLEAN_UP_LABELS = ("io.balena.supervised", "io.resin.supervised")
_numbers = itertools.count(1)


def required(name):
    value = os.environ.get(name)
    if not value:
        raise SystemExit(f"{name} is not set: these tests are run by `make test`")
    return value


def wait_until(condition, what, seconds=90):
    """Returns the first true value of `condition`; fails the test when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("engine", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self):
        return self.body.decode()

    @property
    def json(self):
        return json.loads(self.body)


class Engine:
    """The shared engine, asked directly, behind the agent's back."""

    def __init__(self):
        self.address = required("SUPERVISOR_TEST_ENGINE")
        self.path = self.address.removeprefix("unix://")
        self.directory = os.path.dirname(self.path)

    def request(self, method, path, body=None, headers=None, timeout=60):
        connection = UnixConnection(self.path, timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
                headers = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, body, headers or {})
            answer = Answer(connection.getresponse())
        finally:
            connection.close()
        if path.startswith("/containers/"):
            disclosure.of_environment(answer.body.decode(errors="replace"))
        return answer

    def get(self, path):
        return self.request("GET", path).json

    def containers(self, label=CLEAN_UP_LABELS[0]):
        filters = urllib.parse.quote(json.dumps({"label": [label]}))
        return self.get(f"/containers/json?all=1&filters={filters}")

    def service_containers(self, app_id):
        """Inspected containers of an app by service name; fails on two of one service."""
        found = {}
        for row in self.containers(f"io.balena.app-id={app_id}"):
            name = row["Labels"]["io.balena.service-name"]
            if name in found:
                raise AssertionError(f"two containers of service {name}")
            container = self.request("GET", f"/containers/{row['Id']}/json")
            if container.status == 200:
                found[name] = container.json
        return found

    def remove(self, container_id):
        self.request("DELETE", f"/containers/{container_id}?force=1&v=1")

    def has_image(self, name):
        return self.request("GET", f"/images/{name}/json").status == 200

    def make_image(self, name, text=""):
        run([f"{ROOT}/scripts/make-test-image", self.address, name, text])

    def control(self, command):
        run([f"{ROOT}/scripts/engine", command, self.directory])

    def clean(self):
        """Takes away all that agents made; waits, because removal of one object holds up another."""
        for label in CLEAN_UP_LABELS:
            for container in self.containers(label):
                self.remove(container["Id"])
        for network in self.get("/networks"):
            if network["Name"] not in ("bridge", "host", "none"):
                self.request("DELETE", f"/networks/{network['Id']}")
        for volume in self.get("/volumes")["Volumes"] or []:
            self.request("DELETE", f"/volumes/{volume['Name']}?force=1")


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        raise AssertionError(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def remove_firewall():
    """Rules of an agent that owned the host; the namespace has other tests."""
    for command in ("iptables", "ip6tables"):
        for rule in ("-D INPUT -j BALENA-FIREWALL", "-D DOCKER-USER -j BALENA-SUPERVISOR",
                     "-F BALENA-FIREWALL", "-X BALENA-FIREWALL", "-F BALENA-SUPERVISOR", "-X BALENA-SUPERVISOR"):
            subprocess.run([command, "--wait", *rule.split()], check=False, capture_output=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def usual_limits():
    """The limits of a login or a service: the agent has to raise them itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))


class HeardSocket(socket.socket):
    """A connection of which the first of what it receives is searched for secrets in the end."""

    LIMIT = 256 * 1024

    def __init__(self):
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.heard = bytearray()

    def _hear(self, piece):
        if len(self.heard) < self.LIMIT:
            self.heard += piece

    def recv(self, *arguments):
        piece = super().recv(*arguments)
        self._hear(piece)
        return piece

    def recv_into(self, buffer, *arguments):
        count = super().recv_into(buffer, *arguments)
        self._hear(bytes(memoryview(buffer)[:count]))
        return count

    def close(self):
        if self.heard:
            disclosure.produced("connections", "a connection", bytes(self.heard))
            self.heard.clear()
        super().close()


class Agent:
    """One agent: own directories, own port. It can be started again on the same directories."""

    def __init__(self, engine_address, config="{}"):
        base = os.path.join(required("SUPERVISOR_TEST_DIRECTORY"), "agents")
        os.makedirs(base, exist_ok=True)
        self.directory = tempfile.mkdtemp(prefix=f"{next(_numbers)}-", dir=base)
        for name in ("host/tmp", "host/etc", "boot", "state", "data"):
            os.makedirs(os.path.join(self.directory, name))
        with open(self.path("host/etc/os-release"), "w", encoding="utf-8") as file:
            file.write('PRETTY_NAME="Test OS 1.0"\nVERSION_ID="1.0"\n')
        self.config = self.path("boot/config.json")
        if config is not None:
            with open(self.config, "w", encoding="utf-8") as file:
                file.write(config)
        self.engine_address = engine_address
        self.port = free_port()
        self.log_path = self.path("log")
        self.process = None
        self.starts = []
        self.places = {"config": self.config, "database": self.path("database.sqlite")}

    def path(self, name):
        return os.path.join(self.directory, name)

    def arguments(self, **overrides):
        """Of the command; `overrides` replace options, by name with underscores; None leaves one out."""
        options = {
            "host_root": self.path("host"),
            "boot": self.path("boot"),
            "state": self.path("state"),
            "data": self.path("data"),
            "config": self.config,
            "database": self.path("database.sqlite"),
            "engine": self.engine_address,
            "listen": f"127.0.0.1:{self.port}",
            **overrides,
        }
        self.places = {name: options[name] for name in self.places}
        return [part for name, value in options.items() if value is not None
                for part in ("--" + name.replace("_", "-"), value)]

    def start(self, wait=True, environment=None, prefix=(), **overrides):
        """`prefix` is a command that executes the rest of its arguments."""
        arguments = self.arguments(**overrides)
        self.note_secrets()
        self.starts.append(time.monotonic())
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, required("SUPERVISOR_TEST_BINARY"), *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "LOG_LEVEL": "debug",
                     **(environment or {})},
                preexec_fn=usual_limits)
        if wait:
            wait_until(self.answers, "the agent answers /ping", seconds=60)
        return self

    def assert_alive(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the agent ended with status {self.process.returncode}")

    def answers(self):
        self.assert_alive()
        try:
            return self.get("/ping", timeout=2).text == "OK"
        except (OSError, http.client.HTTPException):
            return False

    def wait_for_end(self, seconds=60):
        return self.process.wait(seconds)

    def kill(self, number=signal.SIGKILL):
        try:
            if self.process and self.process.poll() is None:
                self.process.send_signal(number)
                return self.process.wait(30)
            return None
        finally:
            self.note_secrets()

    def note_secrets(self):
        disclosure.of_configuration(self.places["config"])
        disclosure.of_database(self.places["database"])

    @property
    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def request(self, method, path, body=None, headers=None, timeout=90):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
                headers = {"Content-Type": "application/json", **(headers or {})}
            connection.request(method, path, body, headers or {})
            answer = Answer(connection.getresponse())
        finally:
            connection.close()
        disclosure.answer(method, path, answer.status, str(answer.headers), answer.body)
        return answer

    def get(self, path, timeout=90):
        return self.request("GET", path, timeout=timeout)

    def status(self):
        """`/v2/state/status`; a state of its own while the agent cannot read the engine and says so."""
        reply = self.get("/v2/state/status")
        return reply.json if reply.status == 200 else {"appState": "unreadable", "containers": [], "images": []}

    def post_target(self, apps, **more):
        return self.request("POST", "/v2/local/target-state", {"local": {"apps": apps}, **more})

    def connect(self, timeout=30):
        connection = HeardSocket()
        connection.settimeout(timeout)
        try:
            connection.connect(("127.0.0.1", self.port))
        except OSError:
            connection.close()
            raise
        return connection

    def process_status(self, field):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name == field:
                    return int(value.split()[0])
        raise AssertionError(f"no {field}")

    def memory(self):
        """Fields of smaps_rollup, in kB."""
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="utf-8") as file:
            return {line.split(":")[0]: int(line.split()[1]) for line in file if line.rstrip().endswith("kB")}


COMMAND = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"]


def service(name, image=IMAGE, number=1, **more):
    """A service of the v2 document that ends at once on SIGTERM."""
    return {
        "serviceName": name, "imageId": number, "image": image, "environment": {}, "labels": {},
        "command": COMMAND, "restart": "always", **more,
    }


def app(*services, app_id=1, commit="c0ffee01", release_id=1, **more):
    return {
        str(app_id): {
            "name": f"app{app_id}", "commit": commit, "releaseId": release_id,
            "services": {str(index): service for index, service in enumerate(services, 1)},
            "volumes": {}, "networks": {}, **more,
        }
    }


class DeviceTest(unittest.TestCase):
    """A test with the shared engine; agents made with `self.agent` end with the test."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.engine = Engine()
        for image, text in ((IMAGE, "1"), (OTHER_IMAGE, "2")):
            if not cls.engine.has_image(image):
                cls.engine.make_image(image, text)

    def setUp(self):
        self.agents = []
        for image, text in ((IMAGE, "1"), (OTHER_IMAGE, "2")):
            if not self.engine.has_image(image):
                self.engine.make_image(image, text)

    def tearDown(self):
        for agent in self.agents:
            agent.kill()
        self.engine.clean()

    def agent(self, start=True, config="{}", **options):
        agent = Agent(self.engine.address, config=config)
        self.agents.append(agent)
        if start:
            agent.start(**options)
        return agent

    def wait_for_services(self, agent, *names, app_id=1):
        """Waits until exactly these services run and the agent says so; returns their containers by name."""

        def settled():
            try:
                status = agent.status()
            except (OSError, http.client.HTTPException):
                agent.assert_alive()
                return None
            if status["appState"] != "applied":
                return None
            running = sorted(row["serviceName"] for row in status["containers"] if row["status"] == "Running")
            if running != sorted(names) or len(status["containers"]) != len(names):
                return None
            containers = self.engine.service_containers(app_id)
            if sorted(containers) != sorted(names):
                return None
            return {"containers": containers} if all(c["State"]["Running"] for c in containers.values()) else None

        return wait_until(settled, f"services running: {', '.join(names) or 'none'}")["containers"]
