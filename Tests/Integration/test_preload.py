"""A device that was made with its apps: `apps.json` of the data partition, and no cloud."""

import contextlib
import json
import os
import random
import sqlite3
import subprocess

from harness import COMMAND, IMAGE, ROOT, DeviceTest, app, required, run, service, wait_until
from system_bus import SystemBus

UUID = "a1b2c3d4e5f60718293a4b5c6d7e8f90"
COMMIT = "c0ffee01"
# No cloud listens there.
MANAGED = {"uuid": "0" * 32, "apiEndpoint": "http://127.0.0.1:9", "deviceApiKey": "5e20c7b94d1f4a6698f3b07ad2c1e845"}
PROVISIONED = {**MANAGED, "registered_at": 1700000000, "deviceId": 5}


def preload(*names, image=IMAGE, app_id=1, **more):
    services = {
        name: {"id": 70 + number, "image_id": 80 + number, "image": image, "environment": {}, "labels": {},
               "composition": {"command": COMMAND, "volumes": ["data:/data"]}}
        for number, name in enumerate(names)}
    return {"config": {}, "apps": {UUID: {
        "id": app_id, "name": "acme", "class": "fleet", "releases": {
            COMMIT: {"id": 99, "services": services, "volumes": {"data": {}}, "networks": {}}}}}, **more}


class Preload(DeviceTest):
    def device(self, content, config=None, start=True, **options):
        agent = self.agent(start=False, config=json.dumps(config or {}))
        self.put(agent, content)
        return agent.start(**options) if start else agent

    def put(self, agent, content):
        with open(agent.path("data/apps.json"), "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))

    def read(self, agent, name="apps.json"):
        with open(agent.path(f"data/{name}"), encoding="utf-8") as file:
            return file.read()

    def setting(self, agent, key):
        database = sqlite3.connect(f"file:{agent.path('database.sqlite')}?mode=ro", uri=True)
        try:
            row = database.execute("SELECT value FROM config WHERE key = ?", (key,)).fetchone()
        finally:
            database.close()
        return row and row[0]

    def wait_for_containers(self, *names, app_id=1):
        def running():
            found = self.engine.service_containers(app_id)
            return sorted(found) == sorted(names) and all(c["State"]["Running"] for c in found.values()) and found

        return wait_until(running, f"containers running: {', '.join(names)}")

    def wait_for_line(self, agent, *words):
        def lines():
            agent.assert_alive()
            return [line for line in agent.log.splitlines() if all(word in line for word in words)]

        return wait_until(lines, f"a line of the log with {words}")

    def wait_until_put_away(self, agent):
        wait_until(lambda: self.read(agent) == "{}", "apps.json is empty")

    def test_the_services_start_without_a_cloud_and_the_file_is_put_away(self):
        content = preload("web", "db")
        agent = self.device(content, MANAGED)
        containers = self.wait_for_containers("web", "db")
        self.wait_until_put_away(agent)
        self.assertEqual(json.loads(self.read(agent, "apps.json.preloaded")), content)
        self.assertEqual(containers["web"]["Name"], f"/web_80_99_{COMMIT}")
        self.assertEqual(containers["web"]["Config"]["Labels"]["io.balena.app-uuid"], UUID)
        self.assertIn("1_data:/data", containers["web"]["HostConfig"]["Binds"])
        self.assertEqual(self.setting(agent, "targetStateSet"), "true")
        self.assertIsNone(self.setting(agent, "pinDevice"))
        # Nothing is done again by the next start.
        agent.kill()
        agent.start()
        self.wait_for_line(agent, "Listening")
        self.assertEqual(self.wait_for_containers("web", "db")["web"]["Id"], containers["web"]["Id"])
        self.assertEqual(self.read(agent), "{}")

    def test_the_services_start_on_a_device_of_no_fleet(self):
        agent = self.device(preload("web"))
        self.wait_for_services(agent, "web")
        self.wait_until_put_away(agent)

    def test_the_former_format_with_apps_by_number_starts_on_a_device_of_no_fleet(self):
        agent = self.device({"apps": app(service("web", number=80), commit=COMMIT, release_id=99)})
        containers = self.wait_for_services(agent, "web")
        self.assertEqual(containers["web"]["Name"], f"/web_80_99_{COMMIT}")
        self.wait_until_put_away(agent)

    def test_a_pinned_file_leaves_the_wish_for_the_time_when_the_device_is_known_to_a_cloud(self):
        agent = self.device(preload("web", pinDevice=True), MANAGED)
        self.wait_for_containers("web")
        self.assertEqual(json.loads(self.setting(agent, "pinDevice")), {"app": 1, "commit": COMMIT})

    def test_configuration_of_the_file_takes_effect(self):
        content = preload("web")
        content["config"] = {"RESIN_SUPERVISOR_POLL_INTERVAL": "901000", "NOT_KNOWN": "x"}
        agent = self.device(content, MANAGED)
        self.wait_for_containers("web")

        def stored():
            with open(agent.config, encoding="utf-8") as file:
                return json.load(file).get("appUpdatePollInterval") == 901000

        wait_until(stored, "the interval is stored")

    def test_the_boot_configuration_of_a_board_stays_but_for_what_the_file_says_of_it(self):
        content = "# mine\ndtparam=i2c_arm=on\ndtoverlay=vc4-kms-v3d\ngpu_mem=16\nenable_uart=1\n"
        marker = "host/tmp/balena-supervisor/reboot-after-apply"

        def board(config):
            agent = self.agent(start=False)
            for name, text in (("device-type.json", '{"slug":"raspberrypi4-64","arch":"aarch64"}'), ("config.txt", content)):
                with open(agent.path(f"boot/{name}"), "w", encoding="utf-8") as file:
                    file.write(text)
            self.put(agent, {**preload("web"), "config": config})
            bus = SystemBus(self, agent.directory)
            agent.start(dbus_address=bus.address)
            self.wait_for_containers("web")
            return agent, bus

        def written(agent):
            with open(agent.path("boot/config.txt"), encoding="utf-8") as file:
                return file.read()

        agent, bus = board({"RESIN_SUPERVISOR_POLL_INTERVAL": "901000"})
        self.wait_for_services(agent, "web")
        self.assertEqual((written(agent), bus.calls), (content, []))
        self.assertFalse(os.path.exists(agent.path(marker)))
        agent.kill()
        agent, bus = board({"RESIN_HOST_CONFIG_gpu_mem": "64"})
        wait_until(lambda: bus.calls == ["Reboot 0"], "the reboot is asked for")
        self.assertEqual(written(agent), content.replace("gpu_mem=16", "gpu_mem=64"))

    def test_a_provisioned_device_with_a_target_leaves_the_file_alone(self):
        agent = self.device(preload("web"), PROVISIONED)
        before = self.wait_for_containers("web")
        self.wait_until_put_away(agent)
        agent.kill()
        other = json.dumps(preload("other"))
        self.put(agent, other)
        agent.start()
        self.wait_for_line(agent, "Listening")
        self.assertEqual(self.wait_for_containers("web")["web"]["Id"], before["web"]["Id"])
        self.assertEqual(self.read(agent), other)

    def test_a_device_that_was_never_provisioned_takes_the_next_file_as_well(self):
        agent = self.device(preload("web"), MANAGED)
        self.wait_for_containers("web")
        self.wait_until_put_away(agent)
        agent.kill()
        self.put(agent, preload("other"))
        agent.start()
        self.wait_for_containers("other")
        self.wait_until_put_away(agent)
        self.assertIn('"web"', self.read(agent, "apps.json.preloaded"))

    def test_a_damaged_file_is_named_and_stays_and_what_ran_runs_on(self):
        agent = self.device(preload("web"), MANAGED)
        before = self.wait_for_containers("web")
        self.wait_until_put_away(agent)
        for content, reason in (
                (json.dumps(preload("other"))[:-20], "not JSON"),
                ('{"apps": {"x": {"id": 1, "name": "n"}}}', "must have at least 1 element"),
                ("[]", "single-container"),
                ("\0\xff", "not JSON"),
                (json.dumps({"apps": app(service("other"))}), "v2 apps.json")):
            agent.kill()
            self.put(agent, content)
            agent.start()
            self.wait_for_line(agent, agent.path("data/apps.json"), reason)
            self.assertEqual(self.read(agent), content)
        after = self.wait_for_containers("web")
        self.assertEqual(after["web"]["Id"], before["web"]["Id"])
        self.assertEqual(after["web"]["State"]["StartedAt"], before["web"]["State"]["StartedAt"])

    def test_a_file_without_apps_and_a_directory_in_its_place_are_nothing(self):
        agent = self.device("{}", MANAGED)
        os.remove(agent.path("data/apps.json"))
        os.mkdir(agent.path("data/apps.json"))
        agent.kill()
        agent.start()
        self.wait_for_line(agent, "No apps.json file present")
        self.assertNotIn("is not used", agent.log)
        self.assertIsNone(self.setting(agent, "targetStateSet"))

    def test_an_image_that_is_missing_is_named_and_the_file_counts_once_it_is_there(self):
        agent = self.device(preload("web", image="came-later:1"), MANAGED)
        self.wait_for_line(agent, "came-later:1", "web", agent.path("data/apps.json"))
        self.assertEqual(self.engine.service_containers(1), {})
        self.assertIn("came-later:1", self.read(agent))
        agent.kill()
        self.engine.make_image("came-later:1")
        self.addCleanup(self.engine.request, "DELETE", "/images/came-later:1?force=1")
        agent.start()
        self.wait_for_containers("web")

    def test_an_image_named_by_digest_is_found_and_not_pulled(self):
        port = required("SUPERVISOR_TEST_REGISTRY").rpartition(":")[2]
        name = run([f"{ROOT}/scripts/registry", "push", port, self.engine.address, IMAGE, "tests/preloaded:1"]).strip()
        repository = name.partition("@")[0]
        agent = self.device(preload("web", image=name), MANAGED)
        self.wait_for_containers("web")
        self.assertTrue(self.engine.has_image(f"{repository}:latest"))
        self.assertNotIn("Downloading", agent.log)

    def test_an_image_that_was_loaded_without_its_digest_is_found_by_the_tag_of_its_repository(self):
        repository = "registry2.example.com/v2/abcd"
        self.engine.make_image(f"{repository}:latest", "loaded")
        self.addCleanup(self.engine.request, "DELETE", f"/images/{repository}:latest?force=1")
        self.device(preload("web", image=f"{repository}@sha256:{'e' * 64}"), MANAGED)
        made = self.wait_for_containers("web")["web"]
        self.assertEqual(made["Image"], self.engine.get(f"/images/{repository}:latest/json")["Id"])

    def test_the_file_waits_for_an_engine_that_comes_late(self):
        agent = self.device(preload("web"), MANAGED, start=False)
        path = agent.path("engine.sock")
        agent.start(engine=f"unix://{path}")
        self.wait_for_line(agent, agent.path("data/apps.json"), "waits for the engine")
        os.symlink(self.engine.path, path)
        self.wait_for_containers("web")
        self.wait_until_put_away(agent)

    def test_killed_at_any_instant_it_ends_with_one_container_of_each_and_the_file_put_away(self):
        generator = random.Random(7)
        agent = self.device(preload("web", "db", pinDevice=True), MANAGED, start=False)
        original = self.read(agent)
        for _ in range(25):
            agent.start(wait=False)
            try:
                agent.wait_for_end(generator.uniform(0, 0.4))
                self.fail(f"the agent ended by itself\n{agent.log}")
            except subprocess.TimeoutExpired:
                pass
            agent.kill()
        agent.start()
        self.wait_for_containers("web", "db")
        self.wait_until_put_away(agent)
        self.assertEqual(self.read(agent, "apps.json.preloaded"), original)
        self.assertEqual(json.loads(self.setting(agent, "pinDevice")), {"app": 1, "commit": COMMIT})
        self.assertEqual(
            sorted(name for name in os.listdir(agent.path("data")) if name.startswith("apps.json")),
            ["apps.json", "apps.json.preloaded"])


class Backup(DeviceTest):
    """Volumes of a device that was migrated from another system."""

    def pack(self, agent, *names, stray=None):
        """An archive with a directory for each volume."""
        directory = agent.path("packed")
        for name in names:
            os.makedirs(f"{directory}/{name}/deep")
            with open(f"{directory}/{name}/deep/file", "w", encoding="utf-8") as file:
                file.write(f"content of {name}")
        if stray:
            with open(f"{directory}/{stray}", "w", encoding="utf-8") as file:
                file.write("stray")
        run(["tar", "-C", directory, "-czf", agent.path("data/backup.tgz"), "."])
        # The engine's directories where the agent looks for the host's.
        outside = agent.path("host") + self.engine.directory
        os.makedirs(os.path.dirname(outside), exist_ok=True)
        os.symlink(self.engine.directory, outside)

    def content(self, volume):
        place = self.engine.get(f"/volumes/{volume}")["Mountpoint"]
        with open(f"{place}/deep/file", encoding="utf-8") as file:
            return file.read()

    def release(self, **more):
        return app(service("one", volumes=["data:/data", "other:/other"]), volumes={"data": {}, "other": {}, **more})

    def test_volumes_are_filled_before_the_services_start_and_the_archive_goes(self):
        agent = self.agent(start=False)
        self.pack(agent, "data", "other")
        agent.start()
        agent.post_target(self.release())
        self.wait_for_services(agent, "one")
        self.assertEqual((self.content("1_data"), self.content("1_other")), ("content of data", "content of other"))
        self.assertFalse(os.path.exists(agent.path("data/backup.tgz")))
        self.assertFalse(os.path.exists(agent.path("data/backup")))
        log = agent.log
        self.assertLess(log.index("Restored volume 'other'"), log.index("Installing service"))
        self.assertEqual(self.engine.get("/volumes/1_data")["Labels"]["io.balena.app-uuid"], "1")

    def test_a_directory_without_a_volume_is_named_and_nothing_starts_until_the_release_has_it(self):
        agent = self.agent(start=False, config='{"bootstrapRetryDelay": 200}')
        self.pack(agent, "data", "more")
        agent.start()
        agent.post_target(self.release())
        wait_until(lambda: "no volume named 'more'" in agent.log, "the directory is named")
        self.assertEqual(self.engine.service_containers(1), {})
        self.assertTrue(os.path.exists(agent.path("data/backup.tgz")))
        agent.post_target(self.release(more={}))
        self.wait_for_services(agent, "one")
        self.assertEqual(self.content("1_more"), "content of more")

    def test_an_archive_that_is_none_and_a_stray_file_in_one_are_named_and_kept(self):
        agent = self.agent(start=False, config='{"bootstrapRetryDelay": 200}')
        self.pack(agent, "data", stray="stray")
        agent.start()
        agent.post_target(self.release())
        wait_until(lambda: "'stray' in" in agent.log, "the file is named")
        agent.kill()
        with open(agent.path("data/backup.tgz"), "wb") as file:
            file.write(b"no archive")
        agent.start()
        wait_until(lambda: "/bin/tar: " in agent.log, "the archive is refused")
        self.assertEqual(self.engine.service_containers(1), {})
        self.assertTrue(os.path.exists(agent.path("data/backup.tgz")))

    def test_a_restart_through_the_api_says_that_nothing_is_done_meanwhile(self):
        agent = self.agent(config='{"bootstrapRetryDelay": 200}')
        agent.post_target(self.release())
        before = self.wait_for_services(agent, "one")["one"]["Id"]
        agent.kill()
        with open(agent.path("data/backup.tgz"), "wb") as file:
            file.write(b"no archive")
        agent.start()
        reply = agent.request("POST", "/v1/restart", {"appId": 1})
        self.assertEqual(reply.status, 503, reply.text)
        self.assertIn("the target is held back", reply.text)
        one = self.engine.service_containers(1)["one"]
        self.assertEqual((one["Id"], one["State"]["Running"]), (before, True))

    def test_killed_at_any_instant_it_ends_with_the_volumes_filled(self):
        generator = random.Random(5)
        agent = self.agent(start=False)
        self.pack(agent, "data", "other")
        agent.start()
        agent.post_target(self.release())
        for _ in range(12):
            agent.kill()
            agent.start(wait=False)
            with contextlib.suppress(subprocess.TimeoutExpired):
                agent.wait_for_end(generator.uniform(0, 0.4))
        agent.kill()
        agent.start()
        self.wait_for_services(agent, "one")
        self.assertEqual((self.content("1_data"), self.content("1_other")), ("content of data", "content of other"))
