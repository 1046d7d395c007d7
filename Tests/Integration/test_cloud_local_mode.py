"""Local mode of a device that has a cloud: what comes with it goes with it, and nothing else does."""

import contextlib
import http.client
import json
import os
import sqlite3
import threading
import time

from cloud import CloudTest, service
from engine_gate import EngineGate, refusal
from harness import COMMAND, IMAGE, app, required, run, wait_until
from harness import service as local_service
from test_cloud import METRICS


class LocalModeTest(CloudTest):
    def gated_agent(self):
        agent = self.managed_agent(start=False)
        gate = EngineGate(agent.directory, self.engine.path)
        self.addCleanup(gate.stop)
        agent.engine_address = gate.address
        agent.start()
        return agent, self.device(agent), gate

    def enter(self, agent, device):
        """Local mode on; returns the note."""
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        wait_until(lambda: self.engine.service_containers(self.fleet.id) == {}, "the cloud's app stops")
        return wait_until(lambda: self.snapshot(agent), "what there is is noted")

    def leave(self, device):
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "0"

    def volume(self, name):
        self.addCleanup(self.engine.request, "DELETE", f"/volumes/{name}?force=1")
        self.engine.request("POST", "/volumes/create", {"Name": name})

    def volumes(self):
        return {row["Name"] for row in self.engine.get("/volumes")["Volumes"] or []}

    def post_bench(self, agent):
        def is_taken():
            return agent.request("POST", "/v2/local/target-state", {"local": {
                "config": {"SUPERVISOR_LOCAL_MODE": "1"}, "apps": app(local_service("bench"))}}).status == 200

        wait_until(is_taken, "the local target is taken")

    def refuse_to_forget(self, agent):
        self.sql(agent, """CREATE TRIGGER refuse BEFORE DELETE ON engine_snapshot
                 BEGIN SELECT RAISE(ABORT, 'the note stays'); END""")

    def allow_to_forget(self, agent):
        self.sql(agent, "DROP TRIGGER refuse")

    def wait_for_log(self, agent, text, count=1):
        wait_until(lambda: agent.log.count(text) >= count, f"the log says {count} times: {text}")

    def create(self, name, image=IMAGE, **more):
        """A container with a volume and a network of its own, all of this name."""
        for kind in ("volumes", "networks"):
            self.addCleanup(self.engine.request, "DELETE", f"/{kind}/{name}?force=1")
            self.engine.request("POST", f"/{kind}/create", {"Name": name})
        self.addCleanup(self.engine.remove, name)
        made = self.engine.request("POST", f"/containers/create?name={name}", {
            "Image": image, "Cmd": COMMAND, **more,
            "HostConfig": {"Binds": [f"{name}:/own"], "NetworkMode": name, **more.get("HostConfig", {})}})
        self.assertEqual(made.status, 201, made.text)
        started = self.engine.request("POST", f"/containers/{name}/start")
        self.assertEqual(started.status, 204, started.text)
        return made.json["Id"]

    def names(self):
        volumes = {row["Name"] for row in self.engine.get("/volumes")["Volumes"] or []}
        networks = {row["Name"] for row in self.engine.get("/networks")}
        containers = {name[1:] for row in self.engine.get("/containers/json?all=1") for name in row["Names"]}
        return volumes & networks & containers, volumes | networks | containers

    def is_answering(self, agent):
        try:
            return agent.get("/ping", timeout=2).text == "OK"
        except (OSError, http.client.HTTPException):
            return False

    def print_log_of_failure(self, container):
        if not self._outcome.success:
            print(self.engine.request("GET", f"/containers/{container}/logs?stdout=1&stderr=1").body.decode(errors="replace"))

    def snapshot(self, agent):
        rows = self.sql(agent, "SELECT snapshot FROM engine_snapshot")
        return rows[0][0] if rows else None

    def sql(self, agent, statement, *values):
        connection = sqlite3.connect(agent.places["database"], timeout=10)
        with contextlib.closing(connection), connection:
            return connection.execute(statement, values).fetchall()


class LocalMode(LocalModeTest):
    def test_local_mode_takes_the_clouds_app_away_and_gives_it_back(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        refused = agent.request(
            "POST", f"/v2/local/target-state?apikey={device.state['api_secret']}", {"local": {"apps": {}}})
        self.assertEqual(refused.status, 400)
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        wait_until(lambda: self.engine.service_containers(self.fleet.id) == {}, "the cloud's app stops")
        # What the hardware does may go with it.
        wait_until(
            lambda: any(set(row["report"][device.uuid]) <= METRICS for row in self.stand_in.seen("state-patch")
                        if row.get("report")),
            "an empty report says so")
        seen = len(self.stand_in.seen("state-patch"))
        # As the command line tool does: what it got, with other apps.
        target = agent.get("/v2/local/target-state").json["state"]["local"]
        target["apps"] = app(local_service("bench"))
        self.assertEqual(agent.request("POST", "/v2/local/target-state", {"local": target}).status, 200)
        wait_until(lambda: "bench" in self.engine.service_containers(1), "the local app runs")
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "0"
        self.wait_for_containers(agent, "main")
        wait_until(lambda: self.engine.service_containers(1) == {}, "the local app is gone")
        wait_until(
            lambda: any("apps" in row["report"][device.uuid] for row in self.stand_in.seen("state-patch")[seen:]
                        if row.get("report")), "apps are reported again")
        for row in self.stand_in.seen("state-patch"):
            self.assertEqual(row["status"], 200 if "done" in row else None, row)

    def test_what_came_with_local_mode_goes_with_it_also_after_a_crash_in_the_middle(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device, gate = self.gated_agent()
        self.wait_for_report(device, release, "main")
        self.volume("before")

        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        wait_until(lambda: self.engine.service_containers(self.fleet.id) == {}, "the cloud's app stops")
        self.assertIn('"before"', self.snapshot(agent))
        for name in ("left-1", "left-2"):
            self.engine.request("POST", "/volumes/create", {"Name": name})
            self.engine.request("POST", "/networks/create", {"Name": name})
            made = self.engine.request("POST", f"/containers/create?name={name}", {"Image": IMAGE, "Cmd": COMMAND})
            self.assertEqual(made.status, 201, made.text)
        target = agent.get("/v2/local/target-state").json["state"]["local"]
        target["apps"] = app(local_service("bench"))
        self.assertEqual(agent.request("POST", "/v2/local/target-state", {"local": target}).status, 200)
        wait_until(lambda: "bench" in self.engine.service_containers(1), "the local app runs")

        def crash(method, path):
            if method == "DELETE" and path.startswith("/volumes/left-"):
                agent.process.kill()
                return False
            return True

        gate.before = crash
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "0"
        agent.wait_for_end(90)
        self.assertEqual(self.engine.service_containers(self.fleet.id), {}, "the cloud's app waits for the clean-up")
        gate.open()
        agent.start()
        self.wait_for_containers(agent, "main")
        volumes = {row["Name"] for row in self.engine.get("/volumes")["Volumes"] or []}
        networks = {row["Name"] for row in self.engine.get("/networks")}
        containers = {name for row in self.engine.get("/containers/json?all=1") for name in row["Names"]}
        for name in ("left-1", "left-2"):
            self.assertNotIn(name, volumes)
            self.assertNotIn(name, networks)
            self.assertNotIn(f"/{name}", containers)
        self.assertIn("before", volumes)
        self.assertEqual(self.engine.service_containers(1), {})
        self.assertTrue(self.engine.has_image(IMAGE))
        self.assertIsNone(self.snapshot(agent))
        self.wait_for_report(device, release, "main")

    def test_a_device_that_leaves_its_fleet_in_local_mode_keeps_what_its_owner_makes(self):
        agent, device = self.provisioned_agent()
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        wait_until(lambda: self.snapshot(agent), "what there is is noted")
        former = self.config_of(agent)
        self.write_config(agent, {k: v for k, v in former.items() if k != "apiEndpoint"})
        wait_until(lambda: not self.snapshot(agent), "the note is gone")
        self.addCleanup(self.engine.request, "DELETE", "/volumes/owners?force=1")
        self.engine.request("POST", "/volumes/create", {"Name": "owners"})
        self.write_config(agent, former)
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "0"
        wait_until(lambda: "Previous engine snapshot was not stored" in agent.log, "local mode ends")
        self.assertIn("owners", {row["Name"] for row in self.engine.get("/volumes")["Volumes"] or []})

    def test_leaving_local_mode_leaves_the_agents_own_container_with_all_that_it_has(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        wait_until(lambda: self.engine.service_containers(self.fleet.id) == {}, "the cloud's app stops")
        wait_until(lambda: self.snapshot(agent), "what there is is noted")
        agent.kill()
        # Not in the note: launchers make the agent's container anew.
        for image in ("own-image:1", "named-image:1"):
            self.addCleanup(self.engine.request, "DELETE", f"/images/{image}?force=1")
            self.engine.make_image(image, image)
        self.create("balena_supervisor", "named-image:1")
        self.create("left")
        binary, directory = required("SUPERVISOR_TEST_BINARY"), required("SUPERVISOR_TEST_DIRECTORY")
        places = {"/usr", "/lib", "/lib64", "/run", os.path.dirname(binary), directory}
        places = [place for place in places if os.path.exists(place)]
        agent.starts.append(time.monotonic())
        own = self.create(
            "the-agent", "own-image:1", Cmd=[binary, *agent.arguments()], Env=["LOG_LEVEL=debug"],
            HostConfig={"NetworkMode": "host", "Binds": ["the-agent:/own", *(f"{p}:{p}" for p in places)]})
        self.addCleanup(self.print_log_of_failure, own)
        wait_until(lambda: self.is_answering(agent), "the agent in the container answers")
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "0"
        self.wait_for_containers(agent, "main")
        whole, parts = self.names()
        self.assertNotIn("left", parts)
        self.assertIn("balena_supervisor", whole)
        # It is in the host's network, and not in the one with its name.
        self.assertIn("the-agent", parts)
        for image in ("own-image:1", "named-image:1"):
            self.assertTrue(self.engine.has_image(image), image)
        state = self.engine.get(f"/containers/{own}/json")
        self.assertTrue(state["State"]["Running"])
        self.assertEqual(state["RestartCount"], 0)
        self.assertIn("the-agent", {row["Name"] for row in self.engine.get("/volumes")["Volumes"]})
        self.assertIsNone(self.snapshot(agent))


class CleanUp(LocalModeTest):
    """What may come in its way."""

    def test_an_engine_that_dies_in_the_middle_of_the_clean_up_leaves_nothing_behind(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device, gate = self.gated_agent()
        self.wait_for_report(device, release, "main")
        self.enter(agent, device)
        self.create("left-1")
        self.create("left-2")

        def die(method, path):
            if method == "DELETE" and path.startswith("/containers/"):
                gate.open()
                self.engine.control("kill")
                return False
            return True

        gate.before = die
        self.leave(device)
        try:
            self.wait_for_log(agent, "Switching local mode waits for the engine")
            self.assertTrue(self.snapshot(agent))
        finally:
            self.engine.control("start")
        self.wait_for_containers(agent, "main")
        _, parts = self.names()
        self.assertFalse(parts & {"left-1", "left-2"}, parts)
        self.assertIsNone(self.snapshot(agent))
        # The engine's network `bridge` is another one since.
        self.assertNotIn("Cannot remove", agent.log)

    def commit(self, container, name, is_wanted):
        """An image made of a container, with an id as wanted."""
        self.addCleanup(self.engine.request, "DELETE", f"/images/{name}?force=1")
        for number in range(100):
            image = self.engine.request(
                "POST", f"/commit?container={container}&repo={name}&comment={number}", {}).json["Id"]
            if is_wanted(image):
                return image
            self.engine.request("DELETE", f"/images/{name}?force=1")
        raise AssertionError("no such image")

    def test_an_image_goes_after_those_that_were_made_of_it(self):
        agent, device = self.provisioned_agent()
        self.enter(agent, device)
        self.create("left-1")
        base = self.commit("left-1", "left-base", lambda image: image < "sha256:8")
        self.create("left-2", "left-base")
        child = self.commit("left-2", "left-child", lambda image: image > "sha256:8")
        self.engine.remove("left-2")
        self.assertEqual(self.engine.request("DELETE", f"/images/{base}?force=1").status, 409)
        self.leave(device)
        wait_until(lambda: not self.snapshot(agent), "the note is gone")
        for image in (base, child, "left-base", "left-child"):
            self.assertFalse(self.engine.has_image(image), image)
        self.assertNotIn("Cannot remove", agent.log)

    def test_the_clouds_app_waits_for_a_note_that_cannot_be_removed(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        self.enter(agent, device)
        self.volume("left")
        self.post_bench(agent)
        wait_until(lambda: "bench" in self.engine.service_containers(1), "the local app runs")
        self.refuse_to_forget(agent)
        self.leave(device)
        self.wait_for_log(agent, "Switching local mode waits for the database: the note stays")
        self.assertNotIn("left", self.volumes())
        agent.kill()
        agent.start()
        self.wait_for_log(agent, "Switching local mode waits for the database: the note stays", 2)
        # It is tried again, and said once.
        time.sleep(7)
        self.assertEqual(agent.log.count("Switching local mode waits for the database"), 2)
        self.assertTrue(self.snapshot(agent))
        self.assertEqual(self.engine.service_containers(self.fleet.id), {})
        self.allow_to_forget(agent)
        self.wait_for_containers(agent, "main")
        self.assertIsNone(self.snapshot(agent))
        self.assertEqual(self.sql(agent, "SELECT uuid FROM target_app WHERE source = 'local'"), [])
        self.volume("after")
        agent.kill()
        agent.start()
        self.wait_for_containers(agent, "main")
        self.assertIn("after", self.volumes())

    def test_a_note_that_cannot_be_read_at_the_start_is_waited_for(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        self.enter(agent, device)
        self.volume("left")
        self.refuse_to_forget(agent)
        self.leave(device)
        self.wait_for_log(agent, "Switching local mode waits for the database: the note stays")
        agent.kill()
        self.volume("left")
        self.allow_to_forget(agent)
        self.sql(agent, "ALTER TABLE engine_snapshot RENAME TO hidden")
        # Has all columns, and an error in each row.
        self.sql(agent, """CREATE VIEW engine_snapshot (id, snapshot, taken_at) AS
                 SELECT id, abs(-9223372036854775807 - id), taken_at FROM hidden""")
        agent.start()
        self.wait_for_log(agent, "Switching local mode waits for the database: integer overflow")
        self.assertEqual(self.engine.service_containers(self.fleet.id), {})
        self.sql(agent, "DROP VIEW engine_snapshot")
        self.sql(agent, "ALTER TABLE hidden RENAME TO engine_snapshot")
        self.wait_for_containers(agent, "main")
        self.assertNotIn("left", self.volumes())
        self.assertIsNone(self.snapshot(agent))

    def test_the_clouds_app_waits_for_a_note_in_a_file_that_cannot_be_written(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent = self.managed_agent(start=False)
        database = f"{agent.path('disk')}/database.sqlite"
        os.mkdir(os.path.dirname(database))
        run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", os.path.dirname(database)])
        self.addCleanup(run, ["umount", "-l", os.path.dirname(database)])
        agent.start(database=database)
        device = self.device(agent)
        self.wait_for_report(device, release, "main")
        self.enter(agent, device)
        self.volume("left")
        agent.kill()
        run(["mount", "-o", "remount,ro", os.path.dirname(database)])
        agent.start(database=database)
        self.leave(device)
        self.wait_for_log(agent, "Switching local mode waits for the database")
        self.assertNotIn("left", self.volumes())
        self.assertEqual(self.engine.service_containers(self.fleet.id), {})
        run(["mount", "-o", "remount,rw", os.path.dirname(database)])
        self.wait_for_containers(agent, "main")
        self.assertIsNone(self.snapshot(agent))

    def test_local_mode_that_is_switched_on_again_during_the_clean_up_goes_on(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device, gate = self.gated_agent()
        self.wait_for_report(device, release, "main")
        note = self.enter(agent, device)
        for name in ("left-1", "left-2"):
            self.volume(name)
        reached, released = threading.Event(), threading.Event()
        self.addCleanup(released.set)

        def hold(method, path):
            if method == "DELETE" and path == "/volumes/left-1":
                reached.set()
                released.wait(60)
                return False
            return True

        gate.before = hold
        self.leave(device)
        self.assertTrue(reached.wait(60))
        gate.open()
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        self.post_bench(agent)
        released.set()
        wait_until(lambda: "bench" in self.engine.service_containers(1), "the local app runs")
        self.assertEqual(self.snapshot(agent), note)
        self.assertLessEqual({"left-1", "left-2"}, self.volumes())
        self.volume("left-3")
        self.leave(device)
        self.wait_for_containers(agent, "main")
        self.assertFalse(self.volumes() & {"left-1", "left-2", "left-3"})
        self.assertEqual(self.engine.service_containers(1), {})
        self.assertIsNone(self.snapshot(agent))

    def test_switches_while_the_engine_is_away_count_as_the_last_one(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device, gate = self.gated_agent()
        self.wait_for_report(device, release, "main")
        gate.before = lambda method, path: False
        for value in ("1", "0", "1"):
            device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = value
            wait_until(
                lambda: self.sql(agent, "SELECT value FROM config WHERE key = 'localMode'")
                == [("true" if value == "1" else "false",)], f"the setting is {value}")
        self.assertIsNone(self.snapshot(agent))
        self.volume("before")
        gate.open()
        wait_until(lambda: self.snapshot(agent), "what there is is noted")
        self.volume("left")
        self.leave(device)
        self.wait_for_containers(agent, "main")
        self.assertEqual(self.volumes() & {"before", "left"}, {"before"})
        self.assertIsNone(self.snapshot(agent))

    def test_volumes_and_images_of_the_clouds_app_stay_whatever_the_note_says(self):
        main = service()
        main["composition"]["volumes"] = ["data:/data"]
        release = self.cloud.add_release(self.fleet, {"main": main}, volumes={"data": {}})
        agent, device = self.provisioned_agent()
        self.wait_for_report(device, release, "main")
        container = self.wait_for_containers(agent, "main")["main"]
        data = self.engine.get(f"/volumes/{self.fleet.id}_data")["CreatedAt"]
        self.volume("left")
        agent.kill()
        # A note of long ago.
        images = [row["Id"] for row in self.engine.get("/images/json") if row["Id"] != container["Image"]]
        note = {"containers": [], "images": images, "volumes": [], "networks": []}
        self.sql(agent, "INSERT INTO engine_snapshot VALUES (1, ?, '2024-01-01T00:00:00.000Z')", json.dumps(note))
        agent.start()
        wait_until(lambda: not self.snapshot(agent), "the note is gone")
        self.assertNotEqual(self.wait_for_containers(agent, "main")["main"]["Id"], container["Id"])
        self.assertEqual(self.engine.get(f"/volumes/{self.fleet.id}_data")["CreatedAt"], data)
        self.assertNotIn("left", self.volumes())
        self.assertNotIn(f"Removed image {container['Image']}", agent.log)

    def test_an_engine_whose_answers_make_no_sense_holds_the_device_for_a_minute(self):
        release = self.cloud.add_release(self.fleet, {"main": service()})
        agent, device, gate = self.gated_agent()
        self.wait_for_report(device, release, "main")
        self.enter(agent, device)
        self.volume("left")
        nonsense = refusal(200, "not a list").replace(b"200 Error", b"200 OK")
        gate.before = lambda method, path: nonsense if path == "/images/json" else True
        self.leave(device)
        self.wait_for_log(agent, "What came with local mode stays")
        gate.open()
        self.wait_for_containers(agent, "main")
        self.assertIn("left", self.volumes())
        self.assertIsNone(self.snapshot(agent))

    def test_a_device_that_leaves_its_fleet_while_the_engine_is_away_notes_nothing(self):
        agent, device, gate = self.gated_agent()
        wait_until(lambda: "deviceId" in self.config_of(agent), "the device knows that it is registered")
        gate.before = lambda method, path: False
        device.config["RESIN_SUPERVISOR_LOCAL_MODE"] = "1"
        self.wait_for_log(agent, "Switching local mode waits for the engine")
        former = self.config_of(agent)
        self.write_config(agent, {k: v for k, v in former.items() if k != "apiEndpoint"})
        wait_until(lambda: agent.get("/v2/device/name").status == 200, "no key is needed any more")
        time.sleep(1)
        gate.open()
        time.sleep(7)
        self.assertIsNone(self.snapshot(agent))

    def test_a_device_that_leaves_its_fleet_forgets_the_note_also_when_the_database_refuses_first(self):
        agent, device = self.provisioned_agent()
        self.enter(agent, device)
        former = self.config_of(agent)
        self.refuse_to_forget(agent)
        self.write_config(agent, {k: v for k, v in former.items() if k != "apiEndpoint"})
        self.wait_for_log(agent, "Switching local mode waits for the database: the note stays")
        self.volume("owners")
        self.write_config(agent, former)
        self.leave(device)
        self.wait_for_log(agent, "Switching logging backend to BalenaLogBackend")
        self.allow_to_forget(agent)
        self.wait_for_log(agent, "Previous engine snapshot was not stored")
        self.assertIn("owners", self.volumes())
