"""What was acknowledged survives kill -9, a power cut and a full disk; a wrong clock harms nothing."""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
import unittest

from clocks import Clocks
from harness import DeviceTest, app, run, service, wait_until

NO_ENGINE = "unix:///nonexistent/engine.sock"
KILLS = 25
POWER_CUTS = 12
DISK_MEBIBYTES = 12


def target(number):
    """A target that says in three places which one it is."""
    return {"local": {
        "name": f"name-{number}", "config": {"SUPERVISOR_POLL_INTERVAL": str(900000 + number)},
        "apps": app(service("one"), commit=f"c{number}", release_id=number)}}


class Stored:
    """What the files of an agent say, read behind its back."""

    def __init__(self, agent, database, config):
        connection = sqlite3.connect(database)
        try:
            self.check = connection.execute("PRAGMA integrity_check").fetchone()[0]
            self.commits = [row[0] for row in connection.execute('SELECT "commit" FROM target_app')]
            self.name = (connection.execute("SELECT value FROM config WHERE key = 'name'").fetchone() or [None])[0]
            self.interval = (connection.execute(
                "SELECT value FROM device_config_target WHERE key = 'SUPERVISOR_POLL_INTERVAL'").fetchone() or [None])[0]
            self.key = connection.execute("SELECT key FROM api_key WHERE app_id = 0").fetchone()[0]
        finally:
            connection.close()
        with open(config, encoding="utf-8") as file:
            self.config = json.load(file)

    def number(self, test):
        """Of the target that is stored, which has to be whole."""
        test.assertEqual(self.check, "ok")
        test.assertEqual(len(self.commits), 1, self.commits)
        number = int(self.commits[0][1:])
        test.assertEqual((self.name, self.interval), (f"name-{number}", str(900000 + number)))
        return number


def wait_for_interval(path, number):
    """config.json follows the database, at the latest at the next start."""

    def interval():
        with open(path, encoding="utf-8") as file:
            return json.load(file).get("appUpdatePollInterval") == 900000 + number

    wait_until(interval, f"config.json has the interval of target {number}")


class Killed(DeviceTest):
    def test_killed_at_any_instant_the_last_acknowledged_target_and_config_json_are_whole(self):
        generator = random.Random(3)
        agent = self.agent(config='{"uuid": "' + "0" * 32 + '", "kept": {"by": ["the host", 1.50]}}', engine=NO_ENGINE)
        self.assertEqual(agent.request("POST", "/v2/local/target-state", target(1)).status, 200)
        acknowledged, sent, key = 1, 1, None
        for _ in range(KILLS):
            stop = threading.Event()

            def post():
                nonlocal acknowledged, sent
                with contextlib.suppress(Exception):
                    while not stop.is_set():
                        sent = acknowledged + 1
                        if agent.request("POST", "/v2/local/target-state", target(sent)).status == 200:
                            acknowledged = sent

            poster = threading.Thread(target=post)
            poster.start()
            time.sleep(generator.uniform(0, 0.15))
            agent.kill()
            stop.set()
            poster.join()
            stored = Stored(agent, agent.path("database.sqlite"), agent.config)
            self.assertIn(stored.number(self), (acknowledged, sent))
            self.assertEqual(stored.config["kept"], {"by": ["the host", 1.5]})
            self.assertEqual(stored.key, key or stored.key)
            key = stored.key
            acknowledged = sent = stored.number(self)
            agent.start(engine=NO_ENGINE)
            wait_for_interval(agent.config, acknowledged)
        self.assertNotIn("damaged", agent.log)
        self.assertNotIn("last good copy", agent.log)


class PowerCut(DeviceTest):
    """A disk whose power fails holds what had been written to it: the image of a mounted file system, copied."""

    def setUp(self):
        super().setUp()
        self.device = self.agent(start=False)
        self.image, self.disk = self.device.path("disk.img"), self.device.path("disk")
        os.mkdir(self.disk)
        with open(self.image, "wb") as file:
            file.truncate(DISK_MEBIBYTES << 20)
        run(["mkfs.ext4", "-q", self.image])
        if not self.mount():
            self.skipTest("no loop devices here")
        self.addCleanup(self.unmount)

    def mount(self):
        return subprocess.run(
            ["mount", "-o", "loop", self.image, self.disk], capture_output=True, check=False).returncode == 0

    def unmount(self):
        subprocess.run(["umount", self.disk], capture_output=True, check=False)

    def tearDown(self):
        for agent in self.agents:
            agent.kill()
        self.unmount()
        super().tearDown()

    def start(self):
        """Boot partition and database on the disk that loses power."""
        os.makedirs(f"{self.disk}/boot", exist_ok=True)
        os.makedirs(f"{self.disk}/data", exist_ok=True)
        config = f"{self.disk}/boot/config.json"
        return self.device.start(
            engine=NO_ENGINE, boot=f"{self.disk}/boot", config=config, database=f"{self.disk}/data/database.sqlite")

    def cut(self):
        """The power fails now: nothing that is only in memory reaches the disk."""
        self.device.process.send_signal(signal.SIGSTOP)
        cut = self.device.path("cut.img")
        shutil.copyfile(self.image, cut)
        self.device.kill()
        run(["umount", self.disk])
        os.rename(cut, self.image)
        self.assertTrue(self.mount())

    def stored(self):
        return Stored(self.device, f"{self.disk}/data/database.sqlite", f"{self.disk}/boot/config.json")

    def post(self, number):
        return self.device.request("POST", "/v2/local/target-state", target(number)).status

    def test_what_was_acknowledged_is_there_after_a_power_cut(self):
        key = None
        for number in range(1, POWER_CUTS + 1):
            self.start()
            if number > 1:
                wait_for_interval(f"{self.disk}/boot/config.json", number - 1)
            self.assertEqual(self.post(number), 200)
            self.cut()
            stored = self.stored()
            self.assertEqual(stored.number(self), number)
            self.assertEqual(stored.key, key or stored.key)
            key = stored.key
        self.assertNotIn("damaged", self.device.log)

    def test_a_power_cut_in_the_middle_of_a_change_leaves_the_old_or_the_new_whole(self):
        generator = random.Random(11)
        self.start()
        number = 1
        self.assertEqual(self.post(number), 200)
        for _ in range(POWER_CUTS):
            stop = threading.Event()
            sent = acknowledged = number

            def post():
                nonlocal acknowledged, sent
                with contextlib.suppress(Exception):
                    while not stop.is_set():
                        sent = acknowledged + 1
                        if self.post(sent) == 200:
                            acknowledged = sent

            poster = threading.Thread(target=post)
            poster.start()
            time.sleep(generator.uniform(0, 0.1))
            self.cut()
            stop.set()
            poster.join()
            number = self.stored().number(self)
            self.assertIn(number, range(acknowledged, sent + 1))
            self.start()
            wait_for_interval(f"{self.disk}/boot/config.json", number)
        self.assertNotIn("The database is damaged", self.device.log)


class FullDisk(DeviceTest):
    """Database, config.json and data on a disk without a free byte."""

    def setUp(self):
        super().setUp()
        self.device = self.agent(start=False)
        self.disk = self.device.path("disk")
        os.mkdir(self.disk)
        run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", self.disk])
        self.places = {"database": f"{self.disk}/db/database.sqlite", "config": f"{self.disk}/config.json"}
        with open(self.places["config"], "w", encoding="utf-8") as file:
            file.write("{}")

    def tearDown(self):
        for agent in self.agents:
            agent.kill()
        run(["umount", self.disk])
        super().tearDown()

    def fill(self):
        with open(f"{self.disk}/filling", "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self):
        os.remove(f"{self.disk}/filling")

    def test_a_disk_that_fills_up_costs_no_service_and_changes_are_taken_again_once_there_is_room(self):
        self.device.start(**self.places)
        self.device.post_target(app(service("one")))
        before = self.wait_for_services(self.device, "one")["one"]["Id"]
        self.fill()
        # Larger each time, so that no space that the database has left will do.
        answers = [
            self.device.post_target(app(
                service("one"), service("two", number=2, labels={"filling": "x" * 60000 * number}), commit=f"c{number}"))
            for number in range(1, 9)]
        refused = [answer for answer in answers if answer.status != 200]
        self.assertTrue(refused, "the disk was not full")
        self.assertIn("full", refused[-1].text)
        self.assertEqual(self.device.get("/ping").text, "OK")
        self.assertEqual(self.device.get("/v1/healthy").status, 200)
        self.assertEqual(self.engine.service_containers(1)["one"]["Id"], before)
        self.free()
        self.assertEqual(self.device.post_target(app(service("one"), service("three", number=2), commit="d")).status, 200)
        after = self.wait_for_services(self.device, "one", "three")
        self.assertEqual(after["one"]["Id"], before)
        self.device.kill()
        self.device.start(**self.places)
        self.assertEqual(self.wait_for_services(self.device, "one", "three")["one"]["Id"], before)

    def test_started_on_a_full_disk_it_enforces_what_it_knew_and_takes_changes_once_there_is_room(self):
        self.device.start(**self.places)
        self.device.post_target(app(service("one")))
        before = self.wait_for_services(self.device, "one")["one"]["Id"]
        self.engine.remove(before)
        self.device.kill()
        self.fill()
        self.device.start(**self.places)
        self.wait_for_services(self.device, "one")
        self.free()
        self.assertEqual(self.device.post_target(app(service("two"))).status, 200)
        self.wait_for_services(self.device, "two")

    def test_a_database_that_cannot_be_made_is_made_once_there_is_room_with_all_that_was_learnt(self):
        places = {"database": self.places["database"]}
        self.fill()
        self.device.start(**places)
        self.assertIn("No space left", self.device.log)
        self.device.post_target(app(service("one")))
        before = self.wait_for_services(self.device, "one")["one"]["Id"]
        self.free()
        wait_until(lambda: "is written to again" in self.device.log, "the database is on disk")
        self.device.kill()
        self.device.start(**places)
        self.assertEqual(self.wait_for_services(self.device, "one")["one"]["Id"], before)


class Clock(DeviceTest):
    """A board without a battery starts in 1970 and learns the time later."""

    def setUp(self):
        super().setUp()
        self.clocks = Clocks(os.environ["SUPERVISOR_TEST_DIRECTORY"])

    def test_in_1970_services_start_and_a_clock_that_is_set_right_later_disturbs_nothing(self):
        self.clocks.set(5)
        agent = self.agent(environment=self.clocks.environment)
        agent.post_target(app(service("one"), service("two", number=2)))
        before = self.wait_for_services(agent, "one", "two")
        self.clocks.set(None)
        agent.post_target(app(service("one"), service("two", number=2), service("three", number=3)))
        after = self.wait_for_services(agent, "one", "two", "three")
        self.clocks.set(2_000_000_000)
        agent.post_target(app(service("one"), service("two", number=2)))
        again = self.wait_for_services(agent, "one", "two")
        self.clocks.set(5)
        agent.post_target(app(service("one"), service("two", number=2, environment={"A": "1"})))
        wait_until(lambda: self.engine.service_containers(1).get("two", before["two"])["Id"] != before["two"]["Id"],
                   "the changed service is made again")
        last = self.wait_for_services(agent, "one", "two")
        for containers in (after, again, last):
            self.assertEqual(containers["one"]["Id"], before["one"]["Id"])
            self.assertEqual(containers["one"]["State"]["StartedAt"], before["one"]["State"]["StartedAt"])
        self.assertEqual(agent.get("/v1/healthy").status, 200)

    def test_an_agent_that_is_started_in_1970_takes_over_what_ran_and_its_own_locks(self):
        agent = self.agent()
        agent.post_target(app(service("one")))
        before = self.wait_for_services(agent, "one")["one"]
        agent.kill()
        self.clocks.set(0)
        agent.start(environment=self.clocks.environment)
        after = self.wait_for_services(agent, "one")["one"]
        self.assertEqual((after["Id"], after["State"]["StartedAt"]), (before["Id"], before["State"]["StartedAt"]))


if __name__ == "__main__":
    unittest.main()
