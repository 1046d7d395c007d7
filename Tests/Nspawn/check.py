"""What the agent does to a real host: systemd, logind, D-Bus, journald and an engine, booted in a container.

    check.py BINARY DIRECTORY
"""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEVICE = os.path.join(ROOT, "scripts/nspawn-device")
URL = "http://127.0.0.1:48484"
# The package's unit, with the settings that an administrator of balenaOS has.
SETTINGS = """BOOT_MOUNTPOINT=/mnt/boot
STATE_MOUNTPOINT=/mnt/state
DATA_MOUNTPOINT=/mnt/data
DATABASE_PATH=/data/database.sqlite
LISTEN_ADDRESS=
LOG_LEVEL=debug
"""
PLAIN_UNIT = """[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'echo started'
ExecStop=/bin/sh -c 'echo stopped'
[Install]
WantedBy=multi-user.target
"""
LONGEST_TURN_SECONDS = 0.010
COMMAND = ["sh", "-c", "echo here I am; trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done"]


class Failure(Exception):
    pass


def wait_until(condition, what, seconds=120):
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.2)


class Device:
    def __init__(self, binary, directory):
        self.directory = directory
        self.root = os.path.join(directory, "root")
        self.process = None
        subprocess.run([DEVICE, "create", directory], check=True)
        shutil.copy(binary, os.path.join(self.root, "usr/bin/balena-supervisor"))
        for name in ("mnt/boot", "mnt/state", "mnt/data", "data"):
            os.makedirs(os.path.join(self.root, name), exist_ok=True)
        self.write("mnt/boot/config.json", '{"hostname":"before"}')
        self.write("mnt/boot/device-type.json", '{"slug":"raspberrypi4-64","arch":"aarch64"}')
        self.write("mnt/boot/config.txt", "# a board\ngpu_mem=16\n")
        with open(os.path.join(ROOT, "packaging/systemd/balena-supervisor.service"), encoding="utf-8") as file:
            self.unit("balena-supervisor", file.read())
        self.write("etc/default/balena-supervisor", SETTINGS)
        for name in ("openvpn", "balena-proxy-config", "redsocks"):
            self.unit(name, PLAIN_UNIT)
        self.unit("slow", "[Service]\nType=oneshot\nExecStart=/bin/sleep 300\nTimeoutStartSec=infinity\n", wanted=False)

    def write(self, name, text):
        with open(os.path.join(self.root, name), "w", encoding="utf-8") as file:
            file.write(text)

    def read(self, name):
        with open(os.path.join(self.root, name), encoding="utf-8") as file:
            return file.read()

    def unit(self, name, text, wanted=True):
        self.write(f"etc/systemd/system/{name}.service", text)
        if wanted:
            directory = os.path.join(self.root, "etc/systemd/system/multi-user.target.wants")
            os.makedirs(directory, exist_ok=True)
            os.symlink(f"/etc/systemd/system/{name}.service", os.path.join(directory, f"{name}.service"))

    def boot(self):
        self.process = subprocess.Popen([DEVICE, "boot", self.directory], stdin=subprocess.DEVNULL)

    @property
    def ends(self):
        try:
            with open(os.path.join(self.directory, "ends"), encoding="utf-8") as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def run(self, *command, check=True, input=None, timeout=120):
        done = subprocess.run([DEVICE, "run", self.directory, *command], capture_output=True, text=True, input=input,
                              timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise Failure(f"{command}: {done.returncode} {done.stdout}{done.stderr}")
        return done.stdout

    def request(self, method, path, body=None, check=True):
        command = ["curl", "-s", "-m", "100", "-X", method, "-w", "\n%{http_code}", URL + path]
        if body is not None:
            command += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        text, _, status = self.run(*command, check=check).rpartition("\n")
        return (int(status) if status.isdigit() else 0), text

    def answers(self):
        return self.request("GET", "/ping", check=False) == (200, "OK")

    def journal(self, *options):
        return self.run("journalctl", "--no-pager", "-o", "cat", *options)

    def target(self, command, config=None):
        services = {"1": {"serviceName": "one", "imageId": 1, "image": "test:1", "environment": {}, "labels": {},
                          "command": COMMAND, "restart": "always", **command}}
        app = {"name": "app", "commit": "c0ffee01", "releaseId": 1, "services": services, "volumes": {}, "networks": {}}
        config = {"HOST_CONFIG_gpu_mem": "16", **(config or {})}
        found = self.request("POST", "/v2/local/target-state",
                             {"local": {"name": "local", "config": config, "apps": {"1": app}}})
        if found[0] != 200:
            raise Failure(f"target: {found}")

    def is_running(self):
        status, text = self.request("GET", "/v2/state/status", check=False)
        if status != 200:
            return False
        state = json.loads(text)
        return state["appState"] == "applied" and [row["status"] for row in state["containers"]] == ["Running"]

    def containers(self):
        return self.run("docker", "ps", "-q", "--no-trunc", "-f", "label=io.balena.supervised").split()

    def stop(self):
        if self.process and self.process.poll() is None:
            subprocess.run([DEVICE, "stop", self.directory], check=False)
            self.process.kill()
            self.process.wait()


def expect(holds, what):
    if not holds:
        raise Failure(what)


class Sentences:
    def __init__(self, device):
        self.device = device
        self.failed = 0
        self.passed = 0

    def check(self, sentence, body):
        try:
            body()
        except (Failure, subprocess.SubprocessError, OSError, ValueError) as error:
            self.failed += 1
            print(f"FAIL nspawn: {sentence}\n    {error}", flush=True)
            try:
                print("    " + self.device.journal("-u", "balena-supervisor", "-n", "25").replace("\n", "\n    "), flush=True)
            except (Failure, subprocess.SubprocessError) as problem:
                print(f"    no journal: {problem}")
            return
        self.passed += 1
        print(f"ok   nspawn: {sentence}", flush=True)


def main(binary, directory):
    device = Device(binary, directory)
    sentences = Sentences(device)
    lock = "tmp/balena-supervisor/services/1/one/updates.lock"

    def locked(name, content=True):
        path = f"/{name}"
        if content:
            device.run("mkdir", "-p", os.path.dirname(path))
            device.run("touch", path)
        else:
            device.run("rm", "-f", path)

    def comes_up():
        device.boot()
        wait_until(device.answers, "the agent answers", 180)

    def watchdog_is_fed():
        shown = device.run("systemctl", "show", "balena-supervisor", "-p", "Type,WatchdogUSec,NRestarts")
        expect("Type=notify" in shown and "WatchdogUSec=3min" in shown and "NRestarts=0" in shown, shown)
        wait_until(lambda: "Target state applied: 1 services running" in device.run(
            "systemctl", "show", "balena-supervisor", "-p", "StatusText"), "the state is told")

    def service_runs():
        device.run("sh", "-c", "mkdir -p /i/bin && cp /bin/busybox /i/bin/ && for n in sh sleep; do ln -sf busybox /i/bin/$n;"
                   "done; tar -C /i -c . | docker import - test:1")
        device.target({})
        wait_until(device.is_running, "the service runs", 180)

    def lines_arrive():
        container = device.containers()[0]
        wait_until(
            lambda: device.request("POST", "/v2/journal-logs", {"containerId": container[:12], "format": "cat"})
            == (200, "here I am\n"), "the container's line is in the journal")
        listener = subprocess.Popen([DEVICE, "run", device.directory, "curl", "-sN", "-m", "20", URL + "/v2/local/logs"],
                                    stdout=subprocess.PIPE, text=True)
        expect("Streaming logs" in listener.stdout.readline(), "the stream begins")
        answer = device.request("POST", "/v2/applications/1/restart-service", {"serviceName": "one"})
        expect(answer == (200, "OK"), answer)
        # Its own end, by its limit of time.
        rows = [json.loads(line) for line in listener.communicate(timeout=60)[0].splitlines()]
        expect("here I am" in [row["message"] for row in rows if row.get("serviceName") == "one"], rows)

    def vpn_is_read():
        answer = device.request("GET", "/v2/device/vpn")
        expect(answer == (200, '{"status":"success","vpn":{"enabled":true,"connected":false}}'), answer)
        device.run("systemctl", "stop", "openvpn")
        answer = device.request("GET", "/v2/device/vpn")
        expect(answer == (200, '{"status":"success","vpn":{"enabled":false,"connected":false}}'), answer)
        device.run("systemctl", "start", "openvpn")

    def firewall_is_there():
        rules = device.run("iptables-save", "-t", "filter")
        expect("-A INPUT -j BALENA-FIREWALL" in rules, rules)
        expect("-A BALENA-FIREWALL -p tcp -m tcp --dport 48484 -j REJECT" in rules, rules)
        expect("-A DOCKER-USER -j BALENA-SUPERVISOR" in rules and "-A DOCKER-USER -j RETURN" in rules, rules)

    def proxy_restarts():
        device.run("journalctl", "--sync")
        answer = device.request("PATCH", "/v1/device/host-config", {"network": {"proxy": {
            "type": "socks5", "ip": "example.org", "port": 1080}}})
        expect(answer == (200, "OK"), answer)
        device.run("journalctl", "--sync")
        lines = [line for line in device.journal("-t", "systemd", "-n", "40").splitlines()
                 if line.startswith(("Stopped ", "Finished "))
                 and ("balena-proxy-config" in line or "redsocks" in line)]
        units = ["balena-proxy-config.service", "balena-proxy-config.service", "redsocks.service", "redsocks.service"]
        expect([next(u for u in set(units) if u in line) for line in lines[-4:]] == units, lines)
        count = len(lines)
        answer = device.request("PATCH", "/v1/device/host-config", {"network": {"proxy": {"port": 1080}}})
        expect(answer == (200, "OK"), answer)
        device.run("journalctl", "--sync")
        lines = [line for line in device.journal("-t", "systemd", "-n", "40").splitlines()
                 if line.startswith(("Stopped ", "Finished "))
                 and ("balena-proxy-config" in line or "redsocks" in line)]
        expect(len(lines) == count, lines)

    def unit_hangs():
        drop_in = "etc/systemd/system/redsocks.service.d"
        os.makedirs(os.path.join(device.root, drop_in))
        device.write(f"{drop_in}/slow.conf", "[Service]\nExecStartPre=/bin/sleep 90\nTimeoutStartSec=infinity\n")
        device.run("systemctl", "daemon-reload")
        found = []
        patch = threading.Thread(target=lambda: found.append(device.request(
            "PATCH", "/v1/device/host-config", {"network": {"proxy": {"port": 1081}}})))
        patch.start()
        # The files are written by now, and their writing counts no more.
        time.sleep(2)
        device.request("GET", "/v2/metrics")
        pings = 0
        while patch.is_alive():
            expect(device.answers(), "other requests are answered")
            pings += 1
        expect(pings > 3, pings)
        expect(found[0][0] == 503 and "redsocks.service has not ended after 20 s" in found[0][1], found)
        lag = next(float(line.split()[1]) for line in device.request("GET", "/v2/metrics")[1].splitlines()
                   if line.startswith("supervisor_loop_lag_seconds "))
        print(f"     the longest turn of the loop meanwhile: {1000 * lag:.1f} ms", flush=True)
        expect(lag < LONGEST_TURN_SECONDS, f"the loop was held up for {1000 * lag:.1f} ms")
        os.unlink(os.path.join(device.root, drop_in, "slow.conf"))
        device.run("systemctl", "daemon-reload")
        device.run("systemctl", "stop", "redsocks")
        device.run("systemctl", "start", "redsocks")

    def inhibit():
        """A program that wants the host to stay up; it goes on until it is stopped or the host goes down."""
        device.run("systemd-run", "--unit=inhibitor", "systemd-inhibit", "--what=shutdown", "--who=backup",
                   "--why=copies the disk", "--mode=block", "sleep", "600")
        wait_until(lambda: "backup" in device.run("systemd-inhibit", "--list", "--no-pager"), "logind knows the inhibitor")

    def inhibitor_refuses():
        ends = device.ends
        inhibit()
        for path, call in (("/v1/reboot", "Reboot"), ("/v1/shutdown", "PowerOff")):
            answer = device.request("POST", path, {})
            expect(answer == (202, '{"Data":"OK","Error":""}'), answer)
            wait_until(lambda: f"{call} is inhibited by backup (copies the disk)" in device.journal(
                "-u", "balena-supervisor", "-n", "50"), "it is told who is in the way")
            wait_until(device.answers, "the API comes back")
        expect(device.ends == ends and device.is_running(), device.ends)

    def released_inhibitor_lets_it_reboot():
        inhibit()
        answer = device.request("POST", "/v1/reboot", {})
        expect(answer[0] == 202, answer)
        wait_until(lambda: "Reboot is inhibited by backup" in device.journal("-b", "-u", "balena-supervisor"), "it is told")
        wait_until(device.answers, "the API comes back")
        device.run("systemctl", "stop", "inhibitor")
        answer = device.request("POST", "/v1/reboot", {})
        expect(answer[0] == 202, answer)
        boots_again(["133", "133"])

    def lock_refuses():
        locked(lock)
        for path in ("/v1/reboot", "/v1/shutdown"):
            answer = device.request("POST", path, {})
            expect(answer == (423, '{"Data":"","Error":"Lockfile exists for { appId: 1, service: one }"}'), answer)
        answer = device.request("PATCH", "/v1/device/host-config", {"network": {"hostname": "after"}})
        expect(answer == (423, "Lockfile exists for { appId: 1, service: one }"), answer)
        expect(device.ends == [], device.ends)

    def boots_again(ends):
        wait_until(lambda: device.ends == ends, f"the container ended with {ends}", 120)
        wait_until(device.answers, "the agent answers again", 180)
        wait_until(device.is_running, "the service runs again", 180)

    def force_reboots():
        answer = device.request("POST", "/v1/reboot", {"force": True})
        expect(answer == (202, '{"Data":"OK","Error":""}'), answer)
        boots_again(["133"])

    def engine_restarts():
        before = device.containers()
        device.target({"environment": {"A": "1"}})
        device.run("busctl", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                   "org.freedesktop.systemd1.Manager", "RestartUnit", "ss", "docker.service", "replace")
        wait_until(lambda: device.is_running() and len(device.containers()) == 1 and device.containers() != before,
                   "one container of the new configuration", 180)

    def configuration_reboots():
        device.target({"environment": {"A": "1"}}, {"HOST_CONFIG_gpu_mem": "64"})
        boots_again(["133"] * 3)
        expect(device.read("mnt/boot/config.txt") == "# a board\ngpu_mem=64\n", device.read("mnt/boot/config.txt"))
        time.sleep(3)
        expect(device.ends == ["133"] * 3, device.ends)

    def bus_restarts():
        device.run("systemctl", "kill", "-s", "KILL", "dbus.service")
        device.run("sh", "-c", "systemctl start dbus.service")
        wait_until(lambda: device.request("GET", "/v2/device/vpn", check=False)[0] == 200, "the bus is there again")

    def shuts_down():
        answer = device.request("POST", "/v1/shutdown", {})
        expect(answer[0] == 202, answer)
        wait_until(lambda: device.process.poll() is not None, "the container has ended", 120)
        expect(device.ends[-1] == "0", device.ends)

    try:
        for sentence, body in (
            ("the agent is ready below systemd", comes_up),
            ("a service runs", service_runs),
            ("the service manager knows the state", watchdog_is_fed),
            ("what a container prints is in the journal and on the stream", lines_arrive),
            ("the firewall guards the API and leaves the engine's chain alone", firewall_is_there),
            ("the VPN's state is that of its unit", vpn_is_read),
            ("a changed proxy restarts its units in order, a repeat does not", proxy_restarts),
            ("a unit that hangs is told after 20 s, and others are answered meanwhile", unit_hangs),
            ("a program that inhibits the shutdown stops a reboot and a shutdown without force", inhibitor_refuses),
            ("a lock refuses reboot, shutdown and a new hostname", lock_refuses),
            ("force reboots the device despite lock and inhibitor, and the service comes back", force_reboots),
            ("an inhibitor that is released lets the device reboot", released_inhibitor_lets_it_reboot),
            ("an engine that restarts during an update converges", engine_restarts),
            ("a changed boot configuration reboots once", configuration_reboots),
            ("a bus that was killed is connected to again", bus_restarts),
            ("shutdown ends the device", shuts_down),
        ):
            sentences.check(sentence, body)
    finally:
        device.stop()
    print(f"nspawn: {sentences.passed} passed, {sentences.failed} failed")
    return 1 if sentences.failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
