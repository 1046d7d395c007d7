"""Answers from memory cost no allocation: a library that counts is loaded before the C library."""

import mmap
import os
import shutil
import struct

from harness import ROOT, DeviceTest, app, run, service, wait_until

REQUESTS = 500
# Timers and engine events may fall into a measured time; one allocation a request falls into each of them.
ELSEWHERE_LIMIT = REQUESTS // 10
ROUNDS = 5


class Allocations(DeviceTest):
    def setUp(self):
        super().setUp()
        compiler = shutil.which("cc") or shutil.which("clang")
        self.assertTrue(compiler, "a C compiler is needed")
        self.library = os.path.join(os.environ["SUPERVISOR_TEST_DIRECTORY"], "allocation_counter.so")
        run([compiler, "-O1", "-shared", "-fPIC", "-o", self.library,
             f"{ROOT}/Tests/Integration/allocation_counter.c"])
        self.file = os.path.join(os.environ["SUPERVISOR_TEST_DIRECTORY"], "allocations")
        with open(self.file, "wb") as file:
            file.write(bytes(mmap.PAGESIZE))

    def counted(self, connection, request):
        """Allocations while the request is made `REQUESTS` times on a kept-alive connection, in the
        quietest of a few rounds."""

        def ask(times):
            for _ in range(times):
                connection.sendall(request)
                answer = connection.recv(65536)
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)

        with open(self.file, "r+b") as file, mmap.mmap(file.fileno(), mmap.PAGESIZE) as memory:
            def total():
                return struct.unpack_from("=Q", memory)[0]

            ask(50)
            self.assertGreater(total(), 1000, "nothing was counted")
            rounds = []
            while len(rounds) < ROUNDS and min(rounds, default=REQUESTS) >= ELSEWHERE_LIMIT:
                before = total()
                ask(REQUESTS)
                rounds.append(total() - before)
            return min(rounds)

    def test_ping_allocates_nothing(self):
        agent = self.agent(environment={"LD_PRELOAD": self.library, "ALLOCATION_COUNTER": self.file,
                                        "LOG_LEVEL": "info"})
        wait_until(lambda: "The target state is reached" in agent.log, "the agent has settled")
        with agent.connect() as connection:
            counted = self.counted(connection, b"GET /ping HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertLess(counted, ELSEWHERE_LIMIT)

    def test_a_status_that_did_not_change_allocates_nothing(self):
        agent = self.agent(environment={"LD_PRELOAD": self.library, "ALLOCATION_COUNTER": self.file,
                                        "LOG_LEVEL": "info"})
        self.assertEqual(agent.post_target(app(service("a"))).status, 200)
        self.wait_for_services(agent, "a")
        wait_until(lambda: "The target state is reached" in agent.log, "the agent has settled")
        with agent.connect() as connection:
            counted = self.counted(connection, b"GET /v2/state/status HTTP/1.1\r\nHost: a\r\n\r\n")
        self.assertLess(counted, ELSEWHERE_LIMIT)
