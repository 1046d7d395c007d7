"""A container that writes much: the agent keeps up or leaves it in the journal, and does not grow.

    LOG_LOAD_SECONDS=60 INTEGRATION_OPTIONS="-k writes_much" …     for the figures of docs/scale.md
"""

import os
import subprocess
import sys
import time

from harness import wait_until
from test_cloud_logs import FILES, LineTest

SECONDS = int(os.environ.get("LOG_LOAD_SECONDS", "2"))
RATE = 10_000
SOCKET = "/run/systemd/journal/socket"
# Entries as the engine's log driver writes them, of a process with its name.
WRITER = r"""
import socket, sys, time
container, seconds, rate, path = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
open("/proc/self/comm", "w").write("dockerd")
out = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
out.connect(path)
begin = time.monotonic()
for number in range(1, seconds * rate + 1):
    out.send(f"CONTAINER_ID_FULL={container}\nPRIORITY=6\nCONTAINER_NAME=main\nSYSLOG_IDENTIFIER={container[:12]}\n"
             f"MESSAGE=load-{number} a line of a service that has something to say {number * 7919}\n".encode())
    if number % 100 == 0:
        time.sleep(max(0, begin + number / rate - time.monotonic()))
print(time.monotonic() - begin)
"""


class Load(LineTest):
    def processor_seconds(self, pid):
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def test_a_container_that_writes_much_costs_no_memory_and_no_line(self):
        agent, device, container = self.start()
        self.write(container, "first", 500)
        self.wait_for_all(device, "first", 500)
        total = SECONDS * RATE
        used, most, pings = self.processor_seconds(agent.process.pid), 0, []
        before = agent.memory()["Anonymous"]
        peer = None
        if "LOG_LOAD_SECONDS" in os.environ:
            script = (f"journalctl --directory {FILES} -f -n 0 -o json CONTAINER_ID_FULL={container['Id']}"
                      f" | gzip > /dev/null")
            peer = subprocess.Popen(["bash", "-c", f"{script}; times"], stdout=subprocess.PIPE, text=True,
                                    start_new_session=True)
            time.sleep(2)
        # A file, because the journal keeps the command line with each entry.
        path = os.path.join(self.cloud_directory, "writer.py")
        with open(path, "w", encoding="ascii") as file:
            file.write(WRITER)
        writer = subprocess.Popen(
            [sys.executable, path, container["Id"], str(SECONDS), str(RATE), SOCKET], stdout=subprocess.PIPE, text=True)

        def is_all_there():
            nonlocal most
            begin = time.monotonic()
            agent.get("/ping")
            pings.append(time.monotonic() - begin)
            most = max(most, agent.memory()["Anonymous"])
            return any(f"load-{total} " in record["message"] for record in device.logs[-50:])

        wait_until(is_all_there, "the last line arrives", seconds=120 + 10 * SECONDS)
        took = float(writer.communicate()[0])
        wait_until(lambda: len(self.arrived(device, "load")) >= total, "all lines arrive")
        numbers = [int(r["message"].split()[0][5:]) for r in self.arrived(device, "load")]
        self.assertEqual(numbers, list(range(1, total + 1)))
        if peer:
            used = self.processor_seconds(agent.process.pid) - used
            children = [int(pid) for pid in subprocess.run(
                ["pgrep", "-P", str(peer.pid)], capture_output=True, text=True, check=True).stdout.split()]
            other = sum(self.processor_seconds(pid) for pid in children)
            os.killpg(peer.pid, 15)
            peer.wait()
            pings.sort()
            print(f"{total} lines in {took:.1f} s: anonymous memory {before} kB, at most {most - before} kB more; "
                  f"/ping p99 {pings[len(pings) * 99 // 100] * 1000:.1f} ms of {len(pings)}; CPU for 1,000 lines "
                  f"{used / total * 1e6:.2f} ms, journalctl and gzip {other / total * 1e6:.2f} ms")
        self.assertLessEqual(most - before, 2048, "kB more of anonymous memory")
