"""What of a composition is not used is named, and the service runs with the rest."""

from harness import DeviceTest, app, service


class Compositions(DeviceTest):
    def test_keys_that_are_not_supported_are_named_in_one_line_and_the_rest_counts(self):
        agent = self.agent()
        agent.post_target(app(service(
            "web", container_name="mine", logging={"driver": "none"}, storage_opt={"size": "1G"}, expose=["80"],
            mem_limit="64q", volumes=["/etc:/host"], domainname="example.org")))
        web = self.wait_for_services(agent, "web")["web"]
        self.assertEqual(web["Config"]["Domainname"], "example.org")
        self.assertEqual(web["HostConfig"]["Memory"], 0)
        log = agent.log
        for line in [
            "Ignoring unsupported or unknown compose fields: containerName, logging, storageOpt, expose (service web)",
            'Ignoring invalid value of memLimit: "64q" (service web)',
            "Ignoring invalid bind mount /etc:/host (service web)",
        ]:
            self.assertEqual(log.count(f"[warn]    {line}\n"), 1, line)

    def test_a_service_without_a_network_of_its_own_runs_although_it_names_others(self):
        agent = self.agent()
        agent.post_target(app(
            service("host", network_mode="host", networks=["inside"]),
            service("none", number=2, network_mode="none", networks={"inside": None}),
            service("vpn", number=3, networks=["inside"]),
            service("guest", number=4, network_mode="service:vpn", networks=["inside"]),
            networks={"inside": {}}))
        containers = self.wait_for_services(agent, "host", "none", "vpn", "guest")
        networks = {name: list(container["NetworkSettings"]["Networks"]) for name, container in containers.items()}
        self.assertEqual(networks, {"host": ["host"], "none": ["none"], "vpn": ["1_inside"], "guest": []})
        for name, mode in {"host": "host", "none": "none", "guest": "service:vpn"}.items():
            self.assertIn(
                f"Ignoring networks: with network_mode {mode} there is none of its own (service {name})\n", agent.log)
