"""Lines of containers on their way to the cloud: a real engine that logs to a real journal, and the stand-in."""

import glob
import itertools
import json
import os
import re
import socket
import sqlite3
import subprocess
import sys

from cloud import CloudTest, service
from engine_gate import EngineGate
from harness import IMAGE, run, wait_until

from journal_device import ENGINE, NATIVE_SOCKET

import log_sink

FILES = "/run/log/journal"


class JournalGate(EngineGate):
    """Makes the engine log to the journal, as balenaOS configures it to."""

    @staticmethod
    def read_request(client):
        head, body = EngineGate.read_request(client)
        if head and "/containers/create" in head[0]:
            content = json.loads(body)
            content.setdefault("HostConfig", {})["LogConfig"] = {"Type": "journald", "Config": {}}
            body = json.dumps(content).encode()
            head = [line for line in head if not line.lower().startswith("content-length:")]
            head.append(f"Content-Length: {len(body)}")
        return head, body


def is_journal_open(agent):
    for path in glob.glob(f"/proc/{agent.process.pid}/fd/*"):
        try:
            if os.readlink(path).startswith(FILES):
                return True
        except OSError:
            pass
    return False


class LineTest(CloudTest):
    def start(self, **more):
        release = self.cloud.add_release(self.fleet, {"main": service(**more)})
        agent = self.managed_agent(start=False)
        gate = JournalGate(agent.directory, self.engine.path)
        self.addCleanup(gate.stop)
        agent.engine_address = gate.address
        agent.start(journal_directory=FILES)
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        return agent, device, self.wait_for_containers(agent, "main")["main"]

    def write(self, container, name, number, stream=1):
        """Lines `<name>-1` to `<name>-<number>` of the container's own process."""
        script = f'i=1; while [ $i -le {number} ]; do echo "{name}-$i"; i=$((i+1)); done > /proc/1/fd/{stream}'
        made = self.engine.request("POST", f"/containers/{container['Id']}/exec", {"Cmd": ["sh", "-c", script]})
        self.engine.request("POST", f"/exec/{made.json['Id']}/start", {"Detach": True})
        wait_until(lambda: f"{name}-{number}" in self.journal(container), f"the journal has {name}-{number}")

    def execute(self, container, script):
        """Waits until the script has ended in the container."""
        made = self.engine.request("POST", f"/containers/{container['Id']}/exec", {"Cmd": ["sh", "-c", script]}).json["Id"]
        self.engine.request("POST", f"/exec/{made}/start", {"Detach": True})
        wait_until(lambda: self.engine.get(f"/exec/{made}/json")["ExitCode"] == 0, "the command has ended")

    def journal(self, container, *arguments):
        done = subprocess.run(
            ["journalctl", "--directory", FILES, "--no-pager", "-o", "cat", f"CONTAINER_ID_FULL={container['Id']}",
             *arguments], capture_output=True, check=True, text=True)
        return [line.strip() for line in done.stdout.splitlines()]

    def arrived(self, device, name):
        return [record for _, record in device.log_arrivals if record["message"].startswith(f"{name}-")]

    def wait_for_all(self, device, name, number):
        wanted = {f"{name}-{i}" for i in range(1, number + 1)}
        wait_until(
            lambda: wanted <= {record["message"] for record in self.arrived(device, name)}, f"all of {name} arrives")

    def stored_cursor(self, agent):
        connection = sqlite3.connect(agent.path("database.sqlite"), timeout=10)
        try:
            row = connection.execute("SELECT value FROM config WHERE key = 'logCursor'").fetchone()
        finally:
            connection.close()
        return row and row[0]

    def wait_for_stored(self, agent, container):
        """Waits until what is stored is behind everything that the container has written."""

        def is_behind():
            cursor = self.stored_cursor(agent)
            return cursor and not [line for line in self.journal(container, f"--after-cursor={cursor}") if line]

        wait_until(is_behind, "the place in the journal is stored")


class ContainerLines(LineTest):
    def test_a_line_arrives_with_its_service_and_time(self):
        agent, device, container = self.start()
        self.write(container, "hello", 3)
        self.wait_for_all(device, "hello", 3)
        records = self.arrived(device, "hello")
        self.assertEqual([r["message"] for r in records], ["hello-1", "hello-2", "hello-3"])
        number = int(container["Config"]["Labels"]["io.balena.service-id"])
        entries = subprocess.run(
            ["journalctl", "--directory", FILES, "-o", "json", f"CONTAINER_ID_FULL={container['Id']}"],
            capture_output=True, check=True, text=True).stdout.splitlines()
        times = {}
        for entry in map(json.loads, entries):
            message = entry["MESSAGE"]
            message = message if isinstance(message, str) else bytes(message).decode()
            times[message.strip()] = int(entry["__REALTIME_TIMESTAMP"]) // 1000
        for record in records:
            self.assertEqual(record["serviceId"], number)
            self.assertEqual(record["timestamp"], times[record["message"]])
            self.assertIs(record["isStdErr"], False)
        lines = [row for row in self.get_text(agent, device, "/v2/metrics").splitlines() if "log" in row]
        self.assertTrue(lines)

    def get_text(self, agent, device, path):
        reply = agent.get(f"{path}?apikey={device.state['api_secret']}")
        self.assertEqual(reply.status, 200, reply.text)
        return reply.text

    def test_a_killed_agent_loses_nothing_and_repeats_only_what_was_not_yet_stored(self):
        agent, device, container = self.start()
        self.write(container, "first", 200)
        self.wait_for_all(device, "first", 200)
        self.wait_for_stored(agent, container)
        self.write(container, "second", 200)
        agent.kill()
        self.write(container, "third", 800)
        agent.start(journal_directory=FILES)
        for name, number in (("second", 200), ("third", 800)):
            self.wait_for_all(device, name, number)
        for name, number, most in (("first", 200, 1), ("second", 200, 2), ("third", 800, 1)):
            messages = [record["message"] for record in self.arrived(device, name)]
            for i in range(1, number + 1):
                self.assertLessEqual(messages.count(f"{name}-{i}"), most, f"{name}-{i}")

    def test_lines_of_a_container_that_is_gone_when_the_agent_comes_back_arrive_once(self):
        agent, device, container = self.start()
        self.write(container, "first", 50)
        self.wait_for_all(device, "first", 50)
        self.wait_for_stored(agent, container)
        agent.kill()
        self.write(container, "second", 200)
        self.engine.remove(container["Id"])
        agent.start(journal_directory=FILES)
        self.wait_for_all(device, "second", 200)
        self.assertNotEqual(self.wait_for_containers(agent, "main")["main"]["Id"], container["Id"])
        self.assertEqual(
            [record["message"] for record in self.arrived(device, "second")], [f"second-{i}" for i in range(1, 201)])
        number = int(container["Config"]["Labels"]["io.balena.service-id"])
        self.assertEqual({record["serviceId"] for record in self.arrived(device, "second")}, {number})

    def test_the_first_part_of_a_line_is_not_lost_with_the_agent(self):
        agent, device, container = self.start()
        self.write(container, "first", 5)
        self.wait_for_all(device, "first", 5)
        engine = subprocess.Popen([sys.executable, "-c", ENGINE, NATIVE_SOCKET], stdin=subprocess.PIPE, text=True)
        self.addCleanup(engine.wait, 30)
        self.addCleanup(engine.stdin.close)

        def put(message, **more):
            entry = {"CONTAINER_ID_FULL": container["Id"], "PRIORITY": "6", "MESSAGE": message, **more}
            engine.stdin.write(json.dumps(entry) + "\n")
            engine.stdin.flush()

        part = {"CONTAINER_PARTIAL_MESSAGE": "true", "CONTAINER_PARTIAL_ID": "p1"}
        put("middle-1")
        self.wait_for_all(device, "middle", 1)
        put("the beginning ", CONTAINER_PARTIAL_LAST="false", **part)
        # On its other stream: what follows on the same one ends the line.
        put("other-1", PRIORITY="3")
        self.wait_for_all(device, "other", 1)
        agent.kill(15)
        put("and the end", CONTAINER_PARTIAL_LAST="true", **part)
        agent.start(journal_directory=FILES)
        wait_until(lambda: any("the end" in record["message"] for _, record in device.log_arrivals), "the line arrives")
        # Sent in two when more than five seconds went by between them.
        messages = [record["message"] for _, record in device.log_arrivals]
        self.assertEqual("".join(text for text in messages if text.startswith(("the beginning", "and the end"))),
                         "the beginning and the end")

    def test_text_without_a_line_feed_arrives_in_its_place(self):
        agent, device, container = self.start()
        self.write(container, "first", 1)
        texts = ["first-1"]
        for stream, text in ((1, "fatal: no configuration"), (2, "fatal: no port")):
            # The engine has it until the container ends.
            self.execute(container, f"printf '{text}' > /proc/1/fd/{stream}")
            self.engine.request("POST", f"/containers/{container['Id']}/restart?t=0")
            self.write(container, f"after{stream}", 2)
            texts += [text, f"after{stream}-1", f"after{stream}-2"]
        self.execute(container, "printf 'last words' > /proc/1/fd/1")
        self.engine.request("POST", f"/containers/{container['Id']}/stop?t=0")
        texts.append("last words")

        def arrived():
            return [record for _, record in device.log_arrivals if record["message"] in texts]

        wait_until(lambda: any(record["message"] == "last words" for record in arrived()), "the last text arrives")
        # What a container writes to its two streams has no order.
        ordered = [record["message"] for record in arrived() if record["message"] != "fatal: no port"]
        self.assertEqual(ordered, [text for text in texts if text != "fatal: no port"])
        number = int(container["Config"]["Labels"]["io.balena.service-id"])
        wait_until(lambda: len(arrived()) == len(texts), "all texts arrive")
        self.assertEqual({record["serviceId"] for record in arrived()}, {number})

    def test_a_container_that_logs_elsewhere_is_said_once(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.managed_agent(start=False)
        agent.start(journal_directory=FILES)
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        text = "The container of main logs to 'json-file' and not to journald: its lines are missing in the log stream"
        wait_until(lambda: text in {record["message"] for _, record in device.log_arrivals}, "it is said in the stream")
        new = self.cloud.add_release(self.fleet, {"main": service(environment={"A": "B"})})
        self.wait_for_report(device, new, "main")
        self.assertEqual(agent.log.count(text), 1)

    def test_the_first_start_goes_on_where_the_agent_before_it_ended(self):
        agent, device, container = self.start()
        agent.kill(15)
        # As the reference leaves it: a container of its own that has ended, and no cursor of ours.
        self.addCleanup(self.engine.remove, "resin_supervisor")
        self.engine.request("POST", "/containers/create?name=resin_supervisor", {"Image": IMAGE, "Cmd": ["sh", "-c", "exit"]})
        self.engine.request("POST", "/containers/resin_supervisor/start")
        self.engine.request("POST", "/containers/resin_supervisor/wait")
        connection = sqlite3.connect(agent.path("database.sqlite"))
        connection.execute("DELETE FROM config WHERE key IN ('logCursor', 'logContainers')")
        connection.commit()
        connection.close()
        self.write(container, "between", 20)
        agent.start(journal_directory=FILES)
        self.wait_for_all(device, "between", 20)
        self.assertEqual(len(self.arrived(device, "between")), 20)

    def test_an_agent_that_is_told_to_end_repeats_nothing(self):
        agent, device, container = self.start()
        self.write(container, "first", 200)
        self.wait_for_all(device, "first", 200)
        # What is told to the source is told once the bytes have left the process, a moment later.
        self.wait_for_stored(agent, container)
        agent.kill(15)
        self.write(container, "second", 100)
        agent.start(journal_directory=FILES)
        self.wait_for_all(device, "second", 100)
        self.assertEqual(len(self.arrived(device, "first")), 200)
        self.assertEqual(len(self.arrived(device, "second")), 100)

    def test_a_log_sink_that_hangs_and_one_that_is_gone_lose_nothing(self):
        self.stand_in.faults.add(endpoint="log-stream", count=1, log="pause", period=15)
        agent, device, container = self.start()
        self.write(container, "first", 3000)
        self.wait_for_all(device, "first", 3000)
        self.stand_in.stop()
        self.write(container, "second", 3000)
        self.stand_in.start()
        self.wait_for_all(device, "second", 3000)

    def test_a_log_sink_that_is_slow_gets_every_line(self):
        self.stand_in.faults.add(endpoint="log-stream", count=1, log="slow")
        agent, device, container = self.start()
        for name in ("first", "second", "third"):
            self.write(container, name, 200)
            self.wait_for_all(device, name, 200)
        self.assertEqual(len(self.arrived(device, "third")), 200)

    def test_a_log_sink_that_stores_a_hundred_lines_a_second_is_waited_for(self):
        fault = self.stand_in.faults.add(endpoint="log-stream", count=1, log="rate")
        agent, device, container = self.start()
        self.write(container, "many", 2000)
        wait_until(
            lambda: any("due to rate limiting" in r["message"] for _, r in device.log_arrivals), "the cloud drops lines")
        self.assertEqual(fault.hits, 1)
        for each in self.stand_in.servers:
            each.cut()
        self.write(container, "after", 50)
        self.wait_for_all(device, "after", 50)

    def test_a_stream_that_is_refused_answered_early_or_cut_goes_on(self):
        faults = [
            self.stand_in.faults.add(endpoint="log-stream", count=1, log="503"),
            self.stand_in.faults.add(endpoint="log-stream", count=1, log="early-201"),
            self.stand_in.faults.add(endpoint="log-stream", count=1, log="close-every", period=8),
        ]
        agent, device, container = self.start()
        numbers = itertools.count(1)

        def is_over():
            self.write(container, f"line{next(numbers)}", 1)
            return all(fault.hits for fault in faults)

        wait_until(is_over, "every fault hits", seconds=150)
        self.assertEqual([fault.hits for fault in faults], [1, 1, 1])
        self.write(container, "last", 10)
        self.wait_for_all(device, "last", 10)

    def test_a_cloud_that_asks_for_time_gets_it(self):
        faults = [
            self.stand_in.faults.add(endpoint="log-stream", count=1, status=503, retry_after="1"),
            self.stand_in.faults.add(endpoint="log-stream", count=1, status=500, retry_after="20"),
        ]
        agent, device, container = self.start()
        self.write(container, "line", 10)
        self.wait_for_all(device, "line", 10)
        self.assertEqual([fault.hits for fault in faults], [1, 1])
        times = [row["at"] for row in self.stand_in.seen("log-stream")]
        # Overload is never answered faster than in 15 s, whatever Retry-After says.
        self.assertGreater(times[1] - times[0], 15)
        self.assertGreater(times[2] - times[1], 20)

    def test_after_a_late_refusal_of_the_key_nothing_is_sent_again(self):
        agent, device, container = self.start()
        self.write(container, "first", 10)
        self.wait_for_all(device, "first", 10)
        delay, log_sink.REFUSAL_DELAY = log_sink.REFUSAL_DELAY, 20
        self.addCleanup(setattr, log_sink, "REFUSAL_DELAY", delay)
        fault = self.stand_in.faults.add(endpoint="log-stream", count=1, log="late-401")
        for each in self.stand_in.servers:
            each.cut()
        self.write(container, "refused", 10)
        wait_until(lambda: fault.hits and self.stand_in.seen("log-stream", status=401), "the stream is refused")
        wait_until(lambda: "server responded with status code: 401" in agent.log, "the device has heard it")
        self.write(container, "after", 10)
        self.wait_for_all(device, "after", 10)
        self.assertEqual(self.arrived(device, "refused"), [])

    def test_lines_on_a_connection_that_dies_before_they_arrive_are_sent_again(self):
        agent, device, container = self.start()
        self.write(container, "first", 10)
        self.wait_for_all(device, "first", 10)
        rule = ["OUTPUT", "-o", "lo", "-p", "tcp", "--dport", str(self.stand_in.ports[0]), "-j", "DROP"]
        run(["iptables", "--wait", "-I", *rule])
        self.addCleanup(subprocess.run, ["iptables", "--wait", "-D", *rule], capture_output=True, check=False)
        sent = self.sent_lines(agent, device)
        self.write(container, "second", 10)
        wait_until(lambda: self.sent_lines(agent, device) >= sent + 10, "the lines have left the process")
        self.stand_in.stop()
        run(["iptables", "--wait", "-D", *rule])
        self.stand_in.start()
        self.wait_for_all(device, "second", 10)
        self.assertEqual(len(self.arrived(device, "first")), 10)
        self.assertEqual(len(self.arrived(device, "second")), 10)

    def sent_lines(self, agent, device):
        text = self.get_text(agent, device, "/v2/metrics")
        return int(re.search(r'^supervisor_log_lines_total\{outcome="sent"\} (\d+)', text, re.M)[1])

    def test_a_log_sink_that_takes_nothing_for_a_minute_is_given_up_and_no_line_is_lost(self):
        # Little room: the sink's own system would take what the sink does not.
        self.stand_in.servers[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.stand_in.faults.add(endpoint="log-stream", count=1, log="deaf")
        agent, device, container = self.start()
        self.write(container, "first", 3000)
        wait_until(lambda: "the cloud took nothing for 60" in agent.log, "the sink is given up", seconds=150)
        self.wait_for_all(device, "first", 3000)
        messages = [record["message"] for record in self.arrived(device, "first")]
        self.assertEqual(messages, [f"first-{i}" for i in range(1, 3001)])

    def test_the_journal_is_open_only_while_the_cloud_wants_lines(self):
        agent, device, container = self.start()
        self.write(container, "first", 10)
        self.wait_for_all(device, "first", 10)
        self.wait_for_stored(agent, container)
        device.config["RESIN_SUPERVISOR_LOG_CONTROL"] = "false"
        wait_until(lambda: not is_journal_open(agent), "the journal is closed")
        wait_until(lambda: self.stored_cursor(agent) is None, "the place in the journal is forgotten")
        self.write(container, "second", 10)
        device.config["RESIN_SUPERVISOR_LOG_CONTROL"] = "true"
        wait_until(lambda: is_journal_open(agent), "the journal is open again")
        self.write(container, "third", 10)
        self.wait_for_all(device, "third", 10)
        self.assertEqual(self.arrived(device, "second"), [])

    def test_lines_under_way_when_the_log_is_switched_off_bring_no_place_back(self):
        # Little room: the sink's own system would acknowledge what the sink has not read.
        self.stand_in.servers[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.stand_in.faults.add(endpoint="log-stream", count=1, log="pause", period=15)
        agent, device, container = self.start()
        self.write(container, "first", 2000)
        self.assertEqual(self.arrived(device, "first"), [])
        device.config["RESIN_SUPERVISOR_LOG_CONTROL"] = "false"
        wait_until(lambda: not is_journal_open(agent), "the journal is closed")
        wait_until(lambda: self.stand_in.seen("log-stream", status=201), "the stream has ended")
        self.assertTrue(self.arrived(device, "first"))
        self.write(container, "second", 10)
        # It stores where it stands when it ends.
        agent.kill(15)
        self.assertIsNone(self.stored_cursor(agent))
        agent.start(journal_directory=FILES)
        device.config["RESIN_SUPERVISOR_LOG_CONTROL"] = "true"
        wait_until(lambda: is_journal_open(agent), "the journal is open again")
        self.write(container, "third", 10)
        self.wait_for_all(device, "third", 10)
        self.assertEqual(self.arrived(device, "second"), [])

    def test_an_unmanaged_device_opens_no_journal(self):
        agent = self.agent(journal_directory=FILES)
        self.assertEqual(agent.status()["appState"], "applied")
        self.assertFalse(is_journal_open(agent))

    def test_a_service_chooses_what_of_it_is_sent(self):
        agent, device, container = self.start(environment={"BALENA_LOGS_LEVEL": "none"})
        self.write(container, "quiet", 5)
        new = self.cloud.add_release(self.fleet, {"main": service(environment={"BALENA_LOGS_LEVEL": "all"})})
        self.wait_for_report(device, new, "main")
        self.write(self.wait_for_containers(agent, "main")["main"], "loud", 5)
        self.wait_for_all(device, "loud", 5)
        self.assertEqual(self.arrived(device, "quiet"), [])
