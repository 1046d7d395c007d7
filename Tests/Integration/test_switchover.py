"""A device changes agents: nothing that the Node supervisor made is made again or restarted."""

import json
import os
import sqlite3
import time
import urllib.parse

import reference_device as reference
from harness import IMAGE, ROOT, DeviceTest, required, run, wait_until

VARIABLES = [("PATH", "/usr/bin:/bin"), ("E", "a=b"), ("EMPTY", "")]
CHANGES = [
    'CMD ["/bin/sh", "-c", "sleep 100000"]', *(f"ENV {name}={value}" for name, value in VARIABLES),
    "WORKDIR /usr/src/app/", 'VOLUME ["/cache"]', "EXPOSE 99/udp", "USER root",
    "LABEL io.balena.architecture=amd64", "HEALTHCHECK --interval=50s --retries=7 CMD true",
]
# What changes by itself on a device that nobody touches.
IRRELEVANT = ("exec_create", "exec_start", "exec_die", "health_status")


class SwitchOver(DeviceTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        made = cls.engine.request("POST", "/containers/create", {"Image": IMAGE, "Cmd": ["x"]}).json["Id"]
        query = urllib.parse.urlencode({"container": made, "repo": "rich", "tag": "1", "changes": CHANGES}, doseq=True)
        answer = cls.engine.request("POST", f"/commit?{query}", {})
        assert answer.status == 201, answer.text
        cls.engine.remove(made)
        port = required("SUPERVISOR_TEST_REGISTRY").rpartition(":")[2]
        cls.images = {}
        for key, source in (("plain", IMAGE), ("rich", "rich:1")):
            name = run([f"{ROOT}/scripts/registry", "push", port, cls.engine.address, source, f"tests/ref-{key}:1"])
            cls.images[key] = {
                "Name": name.strip(), "Id": cls.engine.get(f"/images/{source}/json")["Id"], "Env": [], "Labels": {},
                "Volumes": [], "User": "", "WorkingDir": "", "Healthcheck": {"Test": ["NONE"]}}
            repository = urllib.parse.quote(name.partition("@")[0])
            cls.engine.request("POST", f"/images/{source}/tag?repo={repository}&tag=latest")
        # As a delta leaves it: with a tag of its repository, unknown by its digest.
        cls.images["delta"] = {**cls.images["plain"], "Name": "registry2.example.com/v2/0f0f@sha256:" + "e" * 64}
        cls.engine.request("POST", f"/images/{IMAGE}/tag?repo=registry2.example.com/v2/0f0f&tag=latest")
        cls.images["rich"] |= {
            "Env": VARIABLES, "Labels": {"io.balena.architecture": "amd64"}, "Volumes": ["/cache"], "User": "root",
            "WorkingDir": "/usr/src/app",
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 50000000000, "Retries": 7}}

    def host(self, **config):
        """An agent that has not started yet, on the files of the reference's host."""
        agent = self.agent(start=False, config=json.dumps({
            "uuid": reference.DEVICE_UUID, "deviceType": "genericx86-64-ext",
            "os": {"kernel": {"extraFirmwareVol": "extra-firmware"}}, **config}))
        for path in ("host/lib/modules", "host/lib/firmware"):
            os.makedirs(agent.path(path))
        for path, text in (
                ("host/etc/os-release", f'ID="balena-os"\nPRETTY_NAME="{reference.OS_NAME}"\nBALENA_BOARD_REV=rev7\n'),
                ("host/etc/hostname", "edge-device\n"),
                ("boot/device-type.json", json.dumps({"slug": "genericx86-64-ext", "arch": "amd64"}))):
            with open(agent.path(path), "w", encoding="utf-8") as file:
                file.write(text)
        return agent

    def managed_host(self):
        return self.host(
            apiEndpoint=reference.ENDPOINT, deviceApiKey=reference.DEVICE_KEY, registered_at=1700000000, deviceId=5)

    def objects(self):
        """All that the engine has, without what changes by itself."""
        containers = {}
        for row in self.engine.get("/containers/json?all=1"):
            found = self.engine.get(f"/containers/{row['Id']}/json")
            # A health check is due or under way at any time.
            found["State"].pop("Health", None)
            found.pop("ExecIDs")
            # In an order that is new each time.
            found["Mounts"].sort(key=lambda mount: mount["Destination"])
            containers[found["Name"]] = found
        networks = {}
        for row in self.engine.get("/networks"):
            networks[row["Name"]] = self.engine.get(f"/networks/{row['Id']}")
        images = {image["Id"]: sorted(image["RepoTags"] or []) for image in self.engine.get("/images/json")}
        volumes = {volume["Name"]: volume for volume in self.engine.get("/volumes")["Volumes"]}
        return {"containers": containers, "networks": networks, "images": images, "volumes": volumes}

    def assert_untouched(self, before, since):
        """Neither in what is there nor in what the engine has told of."""
        query = urllib.parse.urlencode({"since": since, "until": f"{time.time():.3f}"})
        events = [json.loads(line) for line in self.engine.request("GET", f"/events?{query}").text.splitlines()]
        changes = [
            f"{event['Type']} {event['Action']} {event['Actor']['Attributes'].get('name', event['Actor']['ID'])}"
            for event in events if not event["Action"].startswith(IRRELEVANT)]
        self.assertEqual(changes, [])
        after = self.objects()
        for kind in before:
            self.assertEqual(sorted(after[kind]), sorted(before[kind]))
            for name in before[kind]:
                self.assertEqual(after[kind][name], before[kind][name])

    def status(self, agent, key):
        return agent.get(f"/v2/state/status?apikey={key}")

    def wait_until_applied(self, agent):
        def applied():
            reply = self.status(agent, reference.GLOBAL_KEY)
            return reply.status == 200 and reply.json["appState"] == "applied"

        wait_until(applied, "the target state is applied")

    def make_device(self, agent, **options):
        release = reference.services(agent.port, self.engine.path)
        # What has no name is cleaned up, as the reference does.
        self.engine.request("POST", "/images/prune")
        reference.create_networks(self.engine)
        reference.create_volumes(self.engine)
        reference.create_containers(self.engine, release, self.images)
        reference.create_database(agent.path("database.sqlite"), release, self.images, **options)
        # The reference itself.
        self.engine.request("POST", f"/images/{IMAGE}/tag?repo=registry2.example.com/agent&tag=v19")
        stranger = reference.post(self.engine, "/containers/create?name=balena_supervisor", {
            "Image": "registry2.example.com/agent:v19", "Cmd": reference.LOOP, "HostConfig": {"NetworkMode": "host"}})["Id"]
        self.addCleanup(self.engine.remove, stranger)
        reference.post(self.engine, f"/containers/{stranger}/start")

    def test_not_one_container_network_or_volume_is_made_again_and_keys_stay_valid(self):
        agent = self.managed_host()
        self.make_device(agent)
        before = self.objects()
        since = f"{time.time():.3f}"
        agent.start()
        self.wait_until_applied(agent)
        self.assert_untouched(before, since)

        self.assertEqual(agent.log.count("Imported from the former agent"), 1)
        for name in ("web", "hostnet"):
            key = reference.api_key(name)
            self.assertEqual(agent.get(f"/v2/applications/{reference.APP}/state?apikey={key}").status, 200)
            self.assertEqual(agent.get(f"/v1/apps/{reference.SECOND_APP}?apikey={key}").status, 401)
        self.assertEqual(self.status(agent, "f" * 32).status, 401)

        # Nor by the next start, which has nothing more to import.
        agent.kill()
        agent.start()
        self.wait_until_applied(agent)
        self.assert_untouched(before, since)
        self.assertEqual(agent.log.count("Imported from the former agent"), 1)

    def test_the_reference_finds_its_tables_as_it_left_them(self):
        agent = self.managed_host()
        release = reference.services(agent.port, self.engine.path)
        path = agent.path("database.sqlite")
        reference.create_database(path, release, self.images)
        tables = ("deviceConfig", "app", "apiSecret", "currentCommit", "image", "engineSnapshot", "knex_migrations",
                  "knex_migrations_lock", "config")

        def rows():
            database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            try:
                return {table: database.execute(f"SELECT * FROM `{table}` ORDER BY 1").fetchall() for table in tables}
            finally:
                database.close()

        before = rows()
        agent.start(engine="unix:///nonexistent/engine.sock")
        self.assertEqual(self.status(agent, reference.api_key("web")).status, 503)
        agent.kill()
        self.assertEqual(rows(), before)

    def test_a_device_in_local_mode_goes_on_with_what_was_pushed_to_it(self):
        agent = self.managed_host()
        self.make_device(agent, source="local", local_mode=True)
        before = self.objects()
        since = f"{time.time():.3f}"
        agent.start()
        self.wait_until_applied(agent)
        self.assert_untouched(before, since)

    def test_killed_while_it_takes_over_the_next_start_still_changes_nothing(self):
        agent = self.managed_host()
        self.make_device(agent)
        before = self.objects()
        since = f"{time.time():.3f}"
        for delay in (0, 0.02, 0.05, 0.1, 0.2, 0.4):
            agent.start(wait=False)
            time.sleep(delay)
            agent.kill()
        agent.start()
        self.wait_until_applied(agent)
        self.assert_untouched(before, since)
