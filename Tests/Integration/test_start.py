"""How the agent starts, degraded or not at all, and how it ends."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import time

from harness import DeviceTest, app, remove_firewall, required, service, wait_until

PING_LIMIT_SECONDS = 1.0
GATEWAY = "10.114.104.1"


class Start(DeviceTest):
    def assert_pings_are_answered(self, agent):
        times = []
        for _ in range(20):
            begin = time.monotonic()
            self.assertEqual(agent.get("/ping").text, "OK")
            times.append(time.monotonic() - begin)
            time.sleep(0.05)
        # An agent that waits for the engine is late each time; a busy machine is now and then.
        self.assertLess(sorted(times)[10], PING_LIMIT_SECONDS)

    def test_ping_is_answered_while_there_is_no_engine(self):
        agent = self.agent(engine="unix:///nonexistent/engine.sock")
        self.assert_pings_are_answered(agent)
        self.assertIn("/nonexistent/engine.sock", agent.log)

    def test_ping_is_answered_while_the_engine_accepts_and_says_nothing(self):
        path = self.agent(start=False).path("mute.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as mute:
            mute.bind(path)
            mute.listen(16)
            agent = self.agents[0].start(engine=f"unix://{path}")
            self.assert_pings_are_answered(agent)
            agent.post_target(app(service("one")))
            self.assert_pings_are_answered(agent)

    def test_a_target_posted_while_the_engine_is_away_is_applied_when_it_comes(self):
        agent = self.agent(start=False)
        path = agent.path("engine.sock")
        agent.start(engine=f"unix://{path}")
        self.assertEqual(agent.post_target(app(service("one"))).status, 200)
        os.symlink(self.engine.path, path)
        self.wait_for_services(agent, "one")

    def assert_ends_with_a_line_that_names(self, agent, *words, **options):
        """Not a crash, and one line tells of it."""
        agent.start(wait=False, **options)
        status = agent.wait_for_end()
        self.assertGreater(status, 0, agent.log)
        self.assertLess(status, 126, agent.log)
        lines = [line for line in agent.log.splitlines() if all(word in line for word in words)]
        self.assertEqual(len(lines), 1, agent.log)
        self.assertNotIn("Fatal error", agent.log)

    def test_a_config_json_that_is_not_json_ends_with_a_line_that_names_it(self):
        agent = self.agent(start=False, config='{"uuid": ')
        self.assert_ends_with_a_line_that_names(agent, agent.config)
        with open(agent.config, encoding="utf-8") as file:
            self.assertEqual(file.read(), '{"uuid": ')

    def test_a_config_json_that_is_an_array_ends_with_a_line_that_names_it(self):
        agent = self.agent(start=False, config="[]")
        self.assert_ends_with_a_line_that_names(agent, agent.config)

    def test_a_config_json_with_values_of_wrong_types_is_no_reason_not_to_start(self):
        agent = self.agent(config='{"listenPort": {}, "apiTimeout": [], "localMode": 7, "uuid": 12}')
        self.assertEqual(agent.get("/v2/version").status, 200)

    def test_an_occupied_port_ends_with_a_line_that_names_it(self):
        agent = self.agent(start=False)
        with socket.socket() as other:
            other.bind(("127.0.0.1", agent.port))
            other.listen(1)
            self.assert_ends_with_a_line_that_names(agent, f"127.0.0.1:{agent.port}")

    def test_an_address_that_is_none_ends_with_a_line_that_names_it(self):
        agent = self.agent(start=False)
        self.assert_ends_with_a_line_that_names(agent, "nonsense", listen="nonsense")

    def test_with_a_port_of_its_own_it_listens_on_the_supervisor_network_only_also_before_that_is_there(self):
        agent = self.agent()
        agent.kill()
        with contextlib.closing(sqlite3.connect(agent.path("database.sqlite"))) as database, database:
            database.execute("INSERT INTO config (key, value) VALUES ('listenPortOverride', ?)", (str(agent.port),))
        subprocess.run(["ip", "address", "del", f"{GATEWAY}/32", "dev", "lo"], check=False, capture_output=True)
        # Without an address of its own it is the host's agent, with a firewall.
        self.addCleanup(remove_firewall)
        agent.start(wait=False, listen=None)
        wait_until(lambda: f"Listening on {GATEWAY}:{agent.port}\n" in agent.log, "it listens")
        with self.assertRaises(ConnectionRefusedError):
            agent.get("/ping")
        subprocess.run(["ip", "address", "add", f"{GATEWAY}/32", "dev", "lo"], check=True)
        self.addCleanup(subprocess.run, ["ip", "address", "del", f"{GATEWAY}/32", "dev", "lo"], check=True)
        with socket.create_connection((GATEWAY, agent.port), 20) as peer:
            peer.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
            self.assertTrue(peer.recv(4096).startswith(b"HTTP/1.1 200 "))

    def test_a_second_agent_on_the_same_database_ends_with_a_line_that_names_it(self):
        first = self.agent()
        second = self.agent(start=False)
        self.assert_ends_with_a_line_that_names(second, "database.sqlite", database=first.path("database.sqlite"))
        self.assertEqual(first.get("/ping").text, "OK")

    def test_a_data_directory_that_cannot_be_written_is_named_and_the_agent_runs_from_memory(self):
        agent = self.agent(start=False)
        obstacle = agent.path("a-file")
        with open(obstacle, "w", encoding="utf-8"):
            pass
        agent.start(data=obstacle, database=f"{obstacle}/database.sqlite")
        self.assertIn(obstacle, agent.log)
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")

    def test_a_damaged_database_is_kept_aside_and_the_agent_runs(self):
        agent = self.agent(start=False)
        with open(agent.path("database.sqlite"), "wb") as file:
            file.write(b"SQLite format 3\0" + os.urandom(8192))
        agent.start()
        agent.post_target(app(service("one")))
        self.wait_for_services(agent, "one")
        kept = [name for name in os.listdir(agent.directory)
                if name.startswith("database.sqlite") and name not in (
                    "database.sqlite", "database.sqlite-wal", "database.sqlite-shm", "database.sqlite-lock")]
        self.assertNotEqual(kept, [], os.listdir(agent.directory))

    def test_sigterm_ends_it_with_status_143_and_leaves_the_services(self):
        agent = self.agent()
        agent.post_target(app(service("one")))
        before = self.wait_for_services(agent, "one")["one"]["Id"]
        self.assertEqual(agent.kill(signal.SIGTERM), 143)
        self.assertEqual(self.engine.service_containers(1)["one"]["Id"], before)
        self.assertTrue(self.engine.service_containers(1)["one"]["State"]["Running"])

    def test_sigint_ends_it_with_status_130(self):
        self.assertEqual(self.agent().kill(signal.SIGINT), 130)

    def test_healthcheck_succeeds_on_a_running_agent_and_fails_without_one(self):
        agent = self.agent()
        command = [required("SUPERVISOR_TEST_BINARY"), "healthcheck", "--listen", f"127.0.0.1:{agent.port}"]
        self.assertEqual(subprocess.run(command, check=False).returncode, 0)
        agent.kill()
        self.assertNotEqual(subprocess.run(command, check=False, capture_output=True).returncode, 0)

    def test_version_and_help_are_printed(self):
        binary = required("SUPERVISOR_TEST_BINARY")
        version = subprocess.run([binary, "--version"], check=True, capture_output=True, text=True).stdout
        self.assertRegex(version, r"^\d+\.\d+\.\d+")
        text = subprocess.run([binary, "run", "--help"], check=True, capture_output=True, text=True).stdout
        for option in ("--host-root", "--boot", "--state", "--data", "--config", "--database", "--engine",
                       "--listen", "--dbus-address", "--journal-directory"):
            self.assertIn(option, text)

    def test_readiness_and_status_reach_the_service_manager(self):
        agent = self.agent(start=False)
        path = agent.path("notify.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(60)
            agent.start(wait=False, environment={"NOTIFY_SOCKET": path})
            received = []
            wait_until(lambda: received.append(manager.recv(4096).decode()) or "READY=1" in received[-1].splitlines(),
                       "READY=1", seconds=60)
            self.assertEqual(agent.get("/ping").text, "OK")
