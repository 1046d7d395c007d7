"""Files of the boot partition: an agent that ends in the middle of a write leaves the old or the new one, whole."""

import glob
import hashlib
import http.client
import os
import random
import re
import signal
import threading
import time

from harness import wait_until
from host import PROXY, SENT, HostTest

KILLS = 6
MOST_KILLS = 40
EXTLINUX = """DEFAULT primary
# which one
LABEL primary
      MENU LABEL primary kernel
      LINUX /boot/Image
      APPEND ${cbootargs} quiet isolcpus=%s
"""


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def leftovers(path):
    return glob.glob(os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.*"))


def whole(path):
    """What a reader of the protocol gets; and whether that is in a write that was cut short."""
    for name in leftovers(path):
        content = read(name)
        if name.endswith(".md5sum") and hashlib.md5(content.encode()).hexdigest() == name.split(".")[-2]:
            return content, True
    return read(path), False


class BootFiles(HostTest):
    def board(self, slug="raspberrypi4-64", release="", **files):
        """A device without a bus: what needs a reboot is written, and the reboot refused."""
        agent = self.agent(start=False, config='{"hostname":"h1","foreign":[1.50]}')
        for name, text in (("boot/device-type.json", f'{{"slug":"{slug}","arch":"aarch64"}}'), *files.items()):
            os.makedirs(os.path.dirname(agent.path(name)), exist_ok=True)
            with open(agent.path(name), "w", encoding="utf-8") as file:
                file.write(text)
        if release:
            with open(agent.path("host/etc/os-release"), "a", encoding="utf-8") as file:
                file.write(release)
        return agent

    def start(self, agent):
        agent.start(dbus_address=f"unix:path={agent.directory}/no-bus")

    def post(self, agent, variable):
        def change(value):
            return agent.request("POST", "/v2/local/target-state",
                                 {"local": {"name": "local", "config": {variable: value}, "apps": {}}})
        return change

    def patch(self, agent, network):
        return lambda value: agent.request("PATCH", "/v1/device/host-config", {"network": network(value)})

    def end_in_the_middle(self, agent, path, texts, change, number):
        """Has the file changed and ends the agent once a write has begun; `texts`: the old and the new content."""
        generator = random.Random(path)
        directory = os.path.dirname(path)
        interrupted = 0
        turn = 0
        # Some write has to be hit.
        while turn < KILLS or number == signal.SIGKILL and not interrupted and turn < MOST_KILLS:
            turn += 1
            old, new = texts(turn), texts(turn + 1)
            self.assertEqual(whole(path), (old, False))
            over = threading.Event()
            sender = threading.Thread(target=self.send, args=(change, str(turn + 1), over))
            sender.start()
            deadline = time.monotonic() + 60
            # On a busy machine a write may be over before it is seen.
            while not any(name.startswith(f".{os.path.basename(path)}.") for name in os.listdir(directory)) \
                    and read(path) != new:
                self.assertLess(time.monotonic(), deadline, "no write begins")
            if number == signal.SIGKILL:
                time.sleep(generator.choice([0, 0, 0.002, 0.005, 0.01]))
            status = agent.kill(number)
            over.set()
            sender.join()
            content, is_interrupted = whole(path)
            if number == signal.SIGTERM:
                self.assertEqual(status, 143)
                self.assertEqual((content, leftovers(path)), (new, []))
            self.assertIn(content, (old, new))
            interrupted += is_interrupted
            self.start(agent)
            if content == old:
                # What the database knows is applied by itself; a request was never answered.
                self.send(change, str(turn + 1), threading.Event())
            wait_until(lambda: self.is_settled(agent, path, new), "the new file is there, and nothing beside it")
        return interrupted

    def is_settled(self, agent, path, content):
        """Every reader finishes a write; the API is one, but not while a reboot is tried."""
        self.send(lambda _: agent.get("/v1/device/host-config"), None, threading.Event(), patience=0)
        return read(path) == content and not leftovers(path)

    @staticmethod
    def send(change, value, over, patience=20):
        """Until it is answered: while the device is to reboot the API is closed."""
        deadline = time.monotonic() + patience
        while not over.is_set():
            try:
                return change(value)
            except (OSError, http.client.HTTPException):
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.05)
        return None

    def check(self, agent, name, texts, change):
        if agent.process is None:
            self.start(agent)
        if not os.path.exists(agent.path(name)):
            change("1")
        path = agent.path(name)
        self.assertGreater(self.end_in_the_middle(agent, path, texts, change, signal.SIGKILL), 0)
        self.assertNotIn("damaged", agent.log)

    def test_killed_in_a_write_of_config_txt(self):
        text = "# a board\ngpu_mem=1\n\n[pi4]\ngpu_mem=128\n"
        agent = self.board(**{"boot/config.txt": text})
        self.check(agent, "boot/config.txt", lambda turn: text.replace("=1\n", f"={turn}\n"),
                   self.post(agent, "HOST_CONFIG_gpu_mem"))

    def test_killed_in_a_write_of_extlinux_conf(self):
        agent = self.board("jetson-tx1", "META_BALENA_VERSION=2.45.0\n",
                           **{"boot/extlinux/extlinux.conf": EXTLINUX % 1})
        self.check(agent, "boot/extlinux/extlinux.conf", lambda turn: EXTLINUX % turn,
                   self.post(agent, "HOST_EXTLINUX_isolcpus"))

    def test_killed_in_a_write_of_extra_u_env(self):
        text = "# mine\nextra_os_cmdline=isolcpus=%s\nfoo=bar\n"
        agent = self.board("jetson-nano", **{"boot/extra_uEnv.txt": text % 1})
        self.check(agent, "boot/extra_uEnv.txt", lambda turn: text % turn, self.post(agent, "HOST_EXTLINUX_isolcpus"))

    def test_killed_in_a_write_of_redsocks_conf(self):
        agent = self.board()
        self.check(agent, "boot/system-proxy/redsocks.conf", lambda turn: PROXY.replace("1080", f"300{turn}"),
                   self.patch(agent, lambda value: {"proxy": {**SENT, "port": int(f"300{value}")}}))

    def settled_configuration(self, agent):
        """Once the agent has put in what it adds by itself."""
        self.start(agent)
        wait_until(lambda: "extraFirmwareVol" in read(agent.config), "the volume is named")
        wait_until(lambda: not leftovers(agent.config), "the write is over")
        return read(agent.config)

    def test_killed_in_a_write_of_config_json(self):
        agent = self.board()
        text = self.settled_configuration(agent)
        self.assertIn('"foreign":[1.50]', text)
        self.check(agent, "boot/config.json", lambda turn: re.sub('"h[0-9]+"', f'"h{turn}"', text),
                   self.patch(agent, lambda value: {"hostname": f"h{value}"}))

    def test_told_to_end_in_a_write_of_config_json_it_finishes_it(self):
        agent = self.board()
        text = self.settled_configuration(agent)
        self.end_in_the_middle(
            agent, agent.config, lambda turn: re.sub('"h[0-9]+"', f'"h{turn}"', text),
            self.patch(agent, lambda value: {"hostname": f"h{value}"}), signal.SIGTERM)
