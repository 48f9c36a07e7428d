"""Who is let in, who is not, and that both sides say why."""
import socket
import ssl
import subprocess

import pytest

from conftest import LAB_RUN_DIR, ROOT, wait_until
from test_bad_input import assert_refused, start_memory_guest

PKI = LAB_RUN_DIR / "pki"


@pytest.fixture
def two_hosts(lab):
    lab.up(hosts=2, link="veth")
    assert start_memory_guest(lab).returncode == 0
    return lab


def pki(*arguments):
    subprocess.run([ROOT / "build/control/cli/sluice", "pki", *map(str, arguments)], check=True, capture_output=True)


def sluice_as(lab, name, directory, *arguments, ca=None):
    """Runs the command line with the certificate of `name` in `directory`."""
    config = lab.tmp_path / f"{name}.sluice.toml"
    config.write_text("[hosts]\n" + "".join(f'{host} = "unix:{LAB_RUN_DIR}/{host}/agent.sock"\n' for host in ("h1", "h2"))
                      + f'[security]\nca = "{ca or directory / "ca.pem"}"\ncertificate = "{directory}/{name}.pem"\n'
                        f'key = "{directory}/{name}-key.pem"\n')
    return lab.sluice("--config", config, *arguments)


def log(host):
    return (LAB_RUN_DIR / host / "agent.log").read_text()


def logged(host, *words):
    return any(all(word in line for word in words) for line in log(host).splitlines())


def wait_for_log(host, *words):
    wait_until(lambda: logged(host, *words), 10, f"{words} in {log(host)}")


def test_viewer_sees_and_does_not_move(two_hosts):
    lab = two_hosts
    viewer = ("--config", LAB_RUN_DIR / "viewer.toml")
    assert "pages" in lab.sluice(*viewer, "guests").stdout
    assert_refused(lab.sluice(*viewer, "migrate", "pages", "--to", "h2"), 1, "CN=viewer", "role viewer", "Migrate", "operator")
    assert_refused(lab.sluice(*viewer, "guest", "stop", "pages"), 1, "CN=viewer", "StopGuest")
    assert lab.guest_host("pages") == "h1"
    wait_for_log("h1", "refused", "CN=viewer", "Migrate")
    # A host's certificate is no operator's.
    assert_refused(sluice_as(lab, "h2", PKI, "guest", "stop", "pages"), 1, "CN=h2")


def test_client_of_another_authority_and_client_without_certificate(two_hosts):
    lab = two_hosts
    other = lab.tmp_path / "other"
    pki("init", other)
    pki("client", "eve", "--role", "operator", "--dir", other)

    def eve_is_refused():
        assert_refused(sluice_as(lab, "eve", other, "migrate", "pages", "--to", "h2"), 1, "h1", "certificate", "does not vouch")
        return logged("h1", "refused", "CN=eve", "does not vouch")

    # She breaks off too when she sees h1's certificate: now and then before h1 has seen hers.
    wait_until(eve_is_refused, 30, "h1's line about eve")
    # Believing the lab's authority does not make it believe her.
    both = other / "both.pem"
    both.write_bytes((other / "ca.pem").read_bytes() + (PKI / "ca.pem").read_bytes())
    assert_refused(sluice_as(lab, "eve", other, "migrate", "pages", "--to", "h2", ca=both), 1, "h1", "closed", "CN=eve", "log")

    context = ssl.create_default_context(cafile=PKI / "ca.pem")
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(str(LAB_RUN_DIR / "h1/agent.sock"))
        # With TLS 1.3 the refusal comes with the first thing that is read.
        with pytest.raises((ssl.SSLError, ConnectionError)), context.wrap_socket(plain) as secured:
            while secured.recv(1024):
                pass
            raise ConnectionError("closed")
    wait_for_log("h1", "refused", "no certificate")
    assert lab.guest_host("pages") == "h1"


def test_agent_of_another_authority(two_hosts):
    lab = two_hosts
    other = lab.tmp_path / "other"
    pki("init", other)
    pki("host", "h2", "--dir", other)
    lab.kill_agent("h2")
    # It trusts its own authority only, so that it can start, and refuses the lab's.
    config = LAB_RUN_DIR / "h2" / "agent.toml"
    config.write_text(config.read_text().replace(str(PKI), str(other)))
    lab.script("start", "h2")
    assert_refused(lab.sluice("migrate", "pages", "--to", "h2"), 1, "h2", "CN=h2", "does not vouch")
    wait_for_log("h2", "refused", "CN=h1", "does not vouch")
    assert lab.guest_host("pages") == "h1"


def test_expired_certificate_is_refused_and_a_new_one_is_taken_without_a_restart(two_hosts):
    lab = two_hosts
    pki("host", "h2", "--dir", PKI, "--force", "--lifetime", "1s")
    # The running agent takes it, and it expires; the command line says so.
    wait_until(lambda: "CN=h2" in (line := lab.sluice("hosts").stderr) and "expired" in line, 20, "the expiry")
    assert_refused(lab.sluice("migrate", "pages", "--to", "h2"), 1, "h2", "expired")
    assert lab.guest_host("pages") == "h1"
    pki("host", "h2", "--dir", PKI, "--force")
    wait_until(lambda: "expired" not in lab.sluice("hosts").stderr, 20, "the new certificate")
    lab.migrate("pages", "h2")
