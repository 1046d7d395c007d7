"""Hostile and clumsy clients: nobody else notices, and the agent goes on with its work."""

import gzip
import json
import os
import random
import resource
import socket
import zlib

from api import two_apps
from harness import DeviceTest, wait_until

TARGET = "/v2/local/target-state"
JSON = {"Content-Type": "application/json"}
FLOOD = 10_000
# What a flood may cost on top of the 4 MB of an idle agent: docs/limits.md.
ANONYMOUS_LIMIT_KB = 16 * 1024


def read_all(connection):
    data = b""
    while True:
        try:
            piece = connection.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return data
        if not piece:
            return data
        data += piece


class CompressedBodies(DeviceTest):
    def test_a_compressed_target_is_applied_like_a_plain_one(self):
        agent = self.agent()
        body = json.dumps({"local": {"name": "packed", "apps": {}}}).encode()
        for coding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)),
                               ("GZIP", gzip.compress(body)), ("identity", body)):
            with self.subTest(coding):
                answer = agent.request("POST", TARGET, packed, {**JSON, "Content-Encoding": coding})
                self.assertEqual((answer.status, answer.json), (200, {"status": "success", "message": "OK"}))
                self.assertEqual(agent.get("/v2/device/name").json["deviceName"], "packed")

    def test_a_compressed_form_is_read(self):
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Content-Encoding": "gzip"}
        answer = self.agent().request("POST", "/v1/restart", gzip.compress(b"appId=77"), headers)
        self.assertEqual(answer.json["message"], "Application with ID 77 is not in the current state")

    def test_a_broken_compressed_body_is_answered_with_503_and_the_connection_goes_on(self):
        agent = self.agent()
        packed = gzip.compress(json.dumps({"local": {"name": "x" * 500}}).encode())
        flipped = packed[:20] + bytes([packed[20] ^ 0xFF]) + packed[21:]
        for body in (packed[:-9], b"no gzip at all", flipped, b""):
            with self.subTest(len(body)), agent.connect() as connection:
                head = (f"POST {TARGET} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                        f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n")
                connection.sendall(head.encode() + body
                                   + b"GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                answer = read_all(connection)
                # An empty body is `{}` whatever its coding says.
                self.assertTrue(answer.startswith(b"HTTP/1.1 503 " if body else b"HTTP/1.1 200 "), answer[:300])
                self.assertTrue(answer.endswith(b"OK"), answer[-200:])

    def test_a_bomb_costs_no_more_than_the_limit_of_a_body(self):
        agent = self.agent()
        before = agent.process_status("VmHWM")
        bomb = gzip.compress(b" " * (512 * 1024 * 1024), 9)
        answer = agent.request("POST", TARGET, bomb, {**JSON, "Content-Encoding": "gzip"})
        self.assertEqual((answer.status, answer.json["message"]), (503, "request entity too large"))
        self.assertLess(agent.process_status("VmHWM") - before, 40 * 1024)


HEAD = b"GET /ping HTTP/1.1\r\nHost: a\r\n"


def ping(connection, goes_on=True):
    """Of a head that was begun before; the next one is begun at once, as a connection between two is closed as idle
    after five seconds."""
    connection.sendall(b"\r\n" + (HEAD if goes_on else b""))
    data = b""
    while not data.endswith(b"\r\n\r\nOK"):
        piece = connection.recv(65536)
        if not piece:
            raise AssertionError(f"closed: {data!r}")
        data += piece


class Hostile(DeviceTest):
    def setUp(self):
        super().setUp()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, FLOOD + 4096), hard))

    def descriptors(self, agent):
        return len(os.listdir(f"/proc/{agent.process.pid}/fd"))

    def processor_seconds(self, agent):
        with open(f"/proc/{agent.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def test_without_free_descriptors_a_client_is_refused_and_those_that_are_there_are_served(self):
        agent = self.agent()
        self.assertEqual(agent.post_target(two_apps()).status, 200)
        wait_until(lambda: agent.status()["appState"] == "applied" and len(self.engine.containers()) == 3,
                   "settled")
        kept = agent.connect()
        kept.sendall(HEAD)
        ping(kept)
        limits = resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE)
        others = []
        try:
            resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE,
                             (self.descriptors(agent) + 8, limits[1]))
            for _ in range(64):
                others.append(agent.connect())
            answers = []
            for connection in others:
                connection.setblocking(False)

            def refused():
                ping(kept)
                for connection in list(others):
                    try:
                        answers.append(connection.recv(65536))
                    except BlockingIOError:
                        continue
                    except ConnectionResetError:
                        answers.append(b"")
                    connection.close()
                    others.remove(connection)
                return len(answers) >= 40

            wait_until(refused, "most are refused")
            self.assertTrue(all(a == b"" or a.startswith(b"HTTP/1.1 503 ") for a in answers), answers[:3])
            # One that was there before is served, again and again, and nothing spins.
            before = self.processor_seconds(agent)
            for _ in range(20):
                ping(kept)
            self.assertLess(self.processor_seconds(agent) - before, 5)
            agent.assert_alive()
        finally:
            kept.close()
            for connection in others:
                connection.close()
            resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, limits)
        wait_until(agent.answers, "it answers when there are descriptors again")
        # The engine can be asked again too.
        answer = agent.request("POST", "/v2/applications/1/restart", {}, timeout=90)
        self.assertEqual((answer.status, answer.text), (200, "OK"))

    def test_ten_thousand_connections_do_not_stop_an_update(self):
        agent = self.agent()
        self.assertEqual(agent.post_target(two_apps()).status, 200)
        wait_until(lambda: agent.status()["appState"] == "applied" and len(self.engine.containers()) == 3,
                   "settled")
        kept = agent.connect(timeout=120)
        kept.sendall(HEAD)
        ping(kept)
        apps = two_apps()
        apps["1"]["services"]["1"]["environment"] = {"FLOOD": "1"}
        body = json.dumps({"local": {"apps": apps}})
        flood = []
        worst = 0
        try:
            for number in range(FLOOD):
                connection = socket.socket()
                connection.setblocking(False)
                connection.connect_ex(("127.0.0.1", agent.port))
                flood.append(connection)
                if number % 500 == 0:
                    ping(kept)
                    worst = max(worst, agent.process_status("RssAnon"))
                if number == FLOOD // 2:
                    ping(kept, goes_on=False)
                    kept.sendall(f"POST {TARGET} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                                 f"Content-Length: {len(body)}\r\n\r\n{body}".encode())
                    self.assertIn(b'"message":"OK"', kept.recv(65536))
                    kept.sendall(HEAD)
                if number % 3 == 0:
                    self.annoy(connection)

            def changed():
                nonlocal worst
                worst = max(worst, agent.process_status("RssAnon"))
                container = self.engine.service_containers(1).get("main")
                return container and "FLOOD=1" in container["Config"]["Env"] and container["State"]["Running"]

            wait_until(changed, "the update is done while they are connected")
        finally:
            for connection in flood:
                connection.close()
            kept.close()
        self.assertLess(worst, ANONYMOUS_LIMIT_KB)
        wait_until(agent.answers, "it answers afterwards")

    @staticmethod
    def annoy(connection):
        try:
            connection.send(b"GET /ping HTTP/1.1\r\nX: ")
        except OSError:
            pass

    def test_half_closed_and_abandoned_sockets_harm_nobody(self):
        agent = self.agent()
        before = self.descriptors(agent)
        for number in range(300):
            connection = agent.connect()
            if number % 3 == 0:
                connection.shutdown(socket.SHUT_WR)
            elif number % 3 == 1:
                connection.sendall(b"POST /v1/update HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\nhalf")
                connection.shutdown(socket.SHUT_WR)
            else:
                connection.sendall(b"GET /v2/events HTTP/1.1\r\nHost: a\r\n\r\n")
            connection.close()
        wait_until(lambda: self.descriptors(agent) <= before + 2, "the descriptors are given back")
        # A client that has said all it wants to say still gets its answer.
        with agent.connect() as connection:
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            self.assertTrue(read_all(connection).endswith(b"OK"))

    def test_random_bytes_and_endless_bodies_never_apply_anything(self):
        agent = self.agent()
        source = random.Random(5)
        alphabet = [b"GET ", b"POST ", b"/ping", TARGET.encode(), b" HTTP/1.1", b"\r\n", b"\n", b"\0", b":",
                    b"Host: a", b"Content-Length: 7", b"Transfer-Encoding: chunked", b"7\r\n", b"0\r\n\r\n",
                    b"ffffffffffffffff\r\n", b"\xff\xfe", b"%", b"?apikey=", b"{}"]
        for _ in range(400):
            with agent.connect(timeout=60) as connection:
                data = b"".join(
                    source.choice(alphabet) if source.random() < 0.8 else source.randbytes(source.randrange(40))
                    for _ in range(source.randrange(1, 30)))
                try:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    continue
                read_all(connection)
        before = agent.process_status("VmHWM")
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        sent = 0
        with agent.connect() as connection:
            try:
                connection.sendall(f"POST {TARGET} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                                   "Transfer-Encoding: chunked\r\n\r\n".encode())
                while sent < 200 * 1024 * 1024:
                    connection.sendall(chunk)
                    sent += len(chunk)
            except OSError:
                pass
        self.assertLess(agent.process_status("VmHWM") - before, 40 * 1024)
        self.assertEqual(agent.get(TARGET).json["state"]["local"]["apps"], {})
        self.assertEqual(agent.get("/v2/device/name").json["deviceName"], "local")
