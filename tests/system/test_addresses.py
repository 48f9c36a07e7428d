"""The data plane's addresses: others find it by ARP and Neighbour Discovery, IPv6, and peers behind a router."""
import re
import subprocess

from conftest import LAB_RUN_DIR, ROOT, wait_until
from test_bad_input import assert_refused, start_memory_guest


def in_host(host, *command):
    result = subprocess.run(["ip", "netns", "exec", f"sluice-{host}", *command], capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


def mac_of(host):
    return re.search(r"link/ether (\S+)", in_host(host, "ip", "link", "show", "mig0"))[1]


def restart_agent(lab, host, *changes):
    """With (old, new) texts replaced in its configuration. The lab ends it with everything else of the host."""
    config = LAB_RUN_DIR / host / "agent.toml"
    text = config.read_text()
    for old, new in changes:
        assert old in text, f"{old} is not in {text}"
        text = text.replace(old, new)
    lab.kill_agent(host)
    config.write_text(text)
    with open(LAB_RUN_DIR / host / "agent.log", "a", encoding="utf-8") as log:
        subprocess.Popen(["ip", "netns", "exec", f"sluice-{host}", ROOT / "build/control/agent/sluiced", "--config", config],
                         stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    wait_until(lambda: lab.sluice("guest", "stop", "nobody").returncode == 1 and
               host in [answer["name"] for answer in lab.json("hosts")["hosts"]], 30, f"{host}'s agent")


def found_neighbour(host, address):
    """The MAC address that a host's kernel finds for an address when it has something to send there."""
    in_host(host, "ping", "-c", "1", "-W", "1", address)
    found = re.search(r"lladdr (\S+)", in_host(host, "ip", "neigh", "show", address))
    return found[1] if found else None


def answers(lab, name):
    return next(host["neighbour_answers"] for host in lab.json("hosts")["hosts"] if host["name"] == name)


def test_arp_is_answered_with_no_session_active(lab):
    lab.up(hosts=2, link="veth", queues="2,1")
    in_host("h2", "ip", "route", "add", "10.77.1.0/24", "dev", "mig0")
    assert answers(lab, "h1") == 0
    assert found_neighbour("h2", "10.77.1.1") == mac_of("h1")
    assert answers(lab, "h1") >= 1
    assert found_neighbour("h2", "10.77.1.9") is None, "nobody has this address"


def test_ipv6_migration_and_neighbour_discovery(lab):
    lab.up(hosts=2, link="veth", queues="2,1")
    for number in (1, 2):
        restart_agent(lab, f"h{number}", (f'"10.77.1.{number}/24"', f'"fd00:77::{number}/64"'))
    in_host("h2", "sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/mig0/disable_ipv6")
    in_host("h2", "ip", "addr", "add", "fd00:77::99/64", "dev", "mig0", "nodad")
    assert found_neighbour("h2", "fd00:77::1") == mac_of("h1")
    for origin, target in (("h1", "h2"), ("h2", "h1")):
        result = lab.json("bench", "--from", origin, "--to", target, "--size", "128M", "--dirty-rate", "20M", "--time", "0")
        assert result["verify"]["mismatches"] == 0
        assert [move["status"] for move in result["moves"]] == ["completed"]
    # One family on both hosts.
    restart_agent(lab, "h2", ('"fd00:77::2/64"', '"10.77.1.2/24"'))
    assert start_memory_guest(lab).returncode == 0
    assert_refused(lab.sluice("migrate", "pages", "--to", "h2"), 1, "family")


def test_peers_behind_a_router(lab):
    """h3's kernel routes between two networks; h1 asks the link for it, h2 is told its MAC address."""
    lab.up(hosts=3, link="veth")
    restart_agent(lab, "h2", ('"10.77.1.2/24"', '"10.77.2.2/24"'))
    assert start_memory_guest(lab).returncode == 0
    assert_refused(lab.sluice("migrate", "pages", "--to", "h2"), 1, "10.77.1.1", "dataplane.gateway")

    restart_agent(lab, "h1", ('"10.77.1.1/24"', '"10.77.1.1/24"\ngateway = "10.77.1.254"'))
    restart_agent(lab, "h2", ('"10.77.2.2/24"', '"10.77.2.2/24"\ngateway = "10.77.2.254"'),
                  ("[dataplane]", f'[neighbours]\n"10.77.2.254" = "{mac_of("h3")}"\n[dataplane]'))
    assert start_memory_guest(lab).returncode == 0, "the first one ended with its agent"
    assert_refused(lab.sluice("migrate", "pages", "--to", "h2"), 1, "gateway 10.77.1.254", "does not answer")

    for network in (1, 2):
        in_host("h3", "ip", "addr", "add", f"10.77.{network}.254/24", "dev", "mig0")
    in_host("h3", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects;"
                              "echo 0 >/proc/sys/net/ipv4/conf/mig0/send_redirects")
    result = lab.json("migrate", "pages", "--to", "h2")
    assert result["status"] == "completed"
    assert result["proof"]["match"] is True
    assert answers(lab, "h2") >= 1, "the router found h2 without asking"
    sent_on = in_host("h3", "cat", "/proc/net/snmp")
    names, values = [line.split() for line in sent_on.splitlines() if line.startswith("Ip:")]
    assert int(values[names.index("ForwDatagrams")]) > 100
