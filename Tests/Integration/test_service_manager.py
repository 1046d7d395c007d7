"""What the agent does when a service manager starts it: journal records, watchdog, passed sockets."""

import json
import os
import socket
import subprocess
import time

from harness import DeviceTest, app, required, service, wait_until

JOURNAL_STREAM = "/run/systemd/journal/stdout"
JOURNAL_FILES = "/run/log/journal"


def journal_records(pid):
    """The journal's records of a process, as the oracle reads them."""
    text = subprocess.run(
        ["journalctl", "--directory", JOURNAL_FILES, "-o", "json", "--no-pager", f"_PID={pid}"],
        check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in text.splitlines()]


class ServiceManager(DeviceTest):
    def launch(self, agent, command_prefix=(), **options):
        """Starts an agent the way a service manager does, with what subprocess allows."""
        arguments = []
        for name, value in {
            "host-root": agent.path("host"), "boot": agent.path("boot"), "state": agent.path("state"),
            "data": agent.path("data"), "config": agent.config, "database": agent.path("database.sqlite"),
            "engine": agent.engine_address, **options.pop("options", {}),
        }.items():
            arguments += [f"--{name}", value]
        environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **options.pop("environment", {})}
        agent.process = subprocess.Popen(
            [*command_prefix, required("SUPERVISOR_TEST_BINARY"), *arguments], stdin=subprocess.DEVNULL,
            env=environment, **options)

    def test_its_log_reaches_the_journal_as_records_with_fields(self):
        agent = self.agent(start=False)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            stream.connect(JOURNAL_STREAM)
            stream.sendall(b"balena-supervisor\n\n6\n0\n0\n0\n0\n")
            status = os.fstat(stream.fileno())
            self.launch(
                agent, stderr=stream, stdout=stream, options={"listen": f"127.0.0.1:{agent.port}"},
                environment={"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
            wait_until(agent.answers, "the agent answers /ping", seconds=20)
            agent.post_target(app(service("main")))
            self.wait_for_services(agent, "main")

        def decision():
            records = journal_records(agent.process.pid)
            return [r for r in records if r.get("STEP") == "start" and r.get("SERVICE") == "main"]

        record = wait_until(decision, "the record of the decision to start the service", seconds=20)[0]
        self.assertEqual(record["APP_ID"], "1")
        self.assertEqual(record["PRIORITY"], "6")
        self.assertEqual(record["SYSLOG_IDENTIFIER"], "balena-supervisor")
        self.assertEqual(record["_TRANSPORT"], "journal")
        self.assertRegex(record["MESSAGE_ID"], "^[0-9a-f]{32}$")
        self.assertTrue(record["REASON"])

    def test_the_watchdog_is_fed_while_the_agent_lives(self):
        agent = self.agent(start=False)
        path = agent.path("notify.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(20)
            agent.start(environment={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "600000"})
            seen = []
            wait_until(lambda: seen.append(manager.recv(4096).decode()) or
                       sum("WATCHDOG=1" in text for text in seen) >= 3, "three WATCHDOG=1", seconds=20)

    def test_a_socket_that_the_manager_opened_is_used(self):
        agent = self.agent(start=False)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(16)
            agent.port = listener.getsockname()[1]
            # LISTEN_PID has to be the process's own id, so a shell sets it and becomes the agent.
            script = f'exec 3<&{listener.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
            with open(agent.log_path, "ab") as log:
                self.launch(
                    agent, command_prefix=("/bin/bash", "-c", script, "bash"), stderr=log, stdout=log,
                    pass_fds=[listener.fileno()])
        wait_until(agent.answers, "the agent answers on the passed socket", seconds=20)
        self.assertNotIn("48484", agent.log)

    def test_it_listens_on_a_unix_socket_and_replaces_a_stale_one(self):
        agent = self.agent(start=False)
        path = agent.path("api.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stale:
            stale.bind(path)
        agent.start(wait=False, listen=f"unix://{path}")
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            probe = subprocess.run(
                [required("SUPERVISOR_TEST_BINARY"), "healthcheck", "--listen", f"unix://{path}"],
                capture_output=True, text=True, check=False)
            if probe.returncode == 0:
                break
            agent.assert_alive()
            time.sleep(0.1)
        self.assertEqual(probe.returncode, 0, probe.stderr)
        self.assertEqual(os.stat(path).st_mode & 0o777, 0o660)
