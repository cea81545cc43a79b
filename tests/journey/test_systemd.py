"""The node as hospital IT runs it: installed by deploy/install.sh under a real systemd, which is PID 1 of a container.

Needs root, systemd-nspawn, debootstrap and a Debian mirror, and takes minutes: runs under DICOMNODE_SYSTEMD_PROOF=1
(`make prove-systemd`). The tests are one story and run in order on one machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicomnode.encoded import encode_part10
from dicomnode.imaging.phantom import chest_phantom
from dicomnode.imaging.phantom_series import PhantomPatient, ct_series
from tests.journey.systemd.container import Container
from tests.neighbours import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        os.environ.get("DICOMNODE_SYSTEMD_PROOF") != "1",
        reason="boots a container for minutes: DICOMNODE_SYSTEMD_PROOF=1, or `make prove-systemd`",
    ),
]

REPOSITORY = Path(__file__).resolve().parents[2]
PROOF = REPOSITORY / "build" / "systemd-proof"
UNIT = "dicomnode.service"
INSTALL = (REPOSITORY / "deploy" / "docs" / "install.md").read_text("utf-8")
#: Holds an association open until it is told to go on; then one object and the release.
PATIENT_SENDER = """
import sys
from pydicom import dcmread
from pynetdicom import AE
image = dcmread(sys.argv[1])
entity = AE("CT1")
entity.add_requested_context(image.SOPClassUID, image.file_meta.TransferSyntaxUID)
association = entity.associate("127.0.0.1", 11112, ae_title="DICOMNODE")
print("established", association.is_established, flush=True)
sys.stdin.readline()
print("status", association.send_c_store(image).Status, flush=True)
association.release()
"""


def _block(language: str) -> str:
    """The first code block of a language in install.md: what IT is told is what is tried."""
    text = re.findall(rf"^```{language}\n(.*?)^```", INSTALL, re.MULTILINE | re.DOTALL)[0]
    return str(text)


#: What install.md says, with the PACS's real address, a shorter quiet time, and a disk that may be nearly full.
CONFIGURATION = (
    _block("toml").replace("10.1.2.3", "127.0.0.1").replace("10.1.8.0/24", "127.0.0.0/8")
    + "[completion]\nquiet_seconds = 2\n[intake]\nminimum_free_bytes = 0\n"
)


def _study(folder: Path, seed: int) -> Path:
    """A phantom's study as files."""
    if not folder.exists():
        new = folder.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        phantom = chest_phantom(np.random.default_rng(seed))
        who = PhantomPatient(seed=f"systemd-{seed}", name="Kowalska^Nadzwyczajna", patient_id="GEHEIM-4711")
        for index, image in enumerate(ct_series(phantom.hu, phantom.spacing, who), 1):
            (new / f"{index:04}.dcm").write_bytes(encode_part10(image, transfer_syntax_uid="1.2.840.10008.1.2.1"))
        new.rename(folder)
    return folder


@pytest.fixture(scope="module")
def machine() -> Iterator[Container]:
    """A booted machine with the bundle, two studies and a PACS; nothing is installed yet."""
    assert os.geteuid() == 0, "run it as root"
    for program in ("systemd-nspawn", "debootstrap", "nsenter"):
        assert shutil.which(program), f"{program} is missing: apt-get install systemd-container debootstrap util-linux"
    PROOF.mkdir(parents=True, exist_ok=True)
    subprocess.run([REPOSITORY / "tests/journey/systemd/make_root.sh", PROOF / "base"], check=True)
    bundle = subprocess.run(
        [REPOSITORY / "deploy/bundle.sh", sys.executable], check=True, capture_output=True, text=True
    )
    name = re.search(r"build/(\S+)\.tar\.gz", bundle.stdout)
    assert name is not None
    run = PROOF / "run"
    shutil.rmtree(run, ignore_errors=True)
    shared = {
        "/mnt/bundle.tar.gz": REPOSITORY / "build" / f"{name.group(1)}.tar.gz",
        "/mnt/first": _study(PROOF / "study-7", 7),
        "/mnt/second": _study(PROOF / "study-8", 8),
    }
    container = Container(PROOF / "base", run, shared)
    try:
        pacs = {"StorageDirectory": "/srv/pacs", "IndexDirectory": "/srv/pacs", "Plugins": []}
        pacs |= {"DicomPort": 4242, "HttpPort": 8042, "AuthenticationEnabled": False}
        container.write("/srv/orthanc.json", json.dumps(pacs | json.loads(_block("json"))))
        container.write("/etc/orthanc/dicomnode.lua", _block("lua"))
        container.write("/srv/sender.py", PATIENT_SENDER)
        container.shell(
            "mkdir /mnt/bundle; tar -xzf /mnt/bundle.tar.gz -C /mnt/bundle --strip-components=1;"
            "cd /mnt/bundle; sha256sum --quiet -c SHA256SUMS"
        )
        container.shell("echo 127.0.0.1 pacs.hospital.test >> /etc/hosts")
        container.run("systemd-run", "-q", "--unit=pacs", "/usr/sbin/Orthanc", "/srv/orthanc.json")
        yield container
    finally:
        container.stop()


def _show(machine: Container, name: str, unit: str = UNIT) -> str:
    return machine.run("systemctl", "show", unit, "-p", name, "--value").stdout.strip()


def _active(machine: Container, unit: str = UNIT) -> bool:
    return _show(machine, "ActiveState", unit) == "active"


def _echo(machine: Container, port: int = 11112) -> bool:
    return (
        machine.run("echoscu", "-aec", "DICOMNODE", "-aet", "PACS", "127.0.0.1", str(port), check=False).returncode == 0
    )


def _pacs(machine: Container, level: str) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:8042/{level}?expand"
    fetch = f"import urllib.request; print(urllib.request.urlopen({url!r}).read().decode())"
    return list(json.loads(machine.run("python3", "-c", fetch).stdout))


def _events(machine: Container) -> list[dict[str, Any]]:
    lines = machine.run("journalctl", "-u", UNIT, "-o", "cat", "--no-pager", "_COMM=dicomnode").stdout.splitlines()
    return [json.loads(line) for line in lines]


def test_install(machine: Container) -> None:
    said = machine.run("/mnt/bundle/deploy/install.sh", seconds=600).stdout
    assert "back up /etc/dicomnode/keys" in said
    modes = machine.shell("cd /etc/dicomnode; stat -c '%n %a %U:%G' . dicomnode.toml keys keys/*.key tls")
    assert modes.splitlines() == [
        ". 750 root:dicomnode",
        "dicomnode.toml 640 root:dicomnode",
        "keys 700 root:root",
        "keys/derivation.key 400 root:root",
        "keys/identity.key 400 root:root",
        "keys/pseudonym.key 400 root:root",
        "tls 750 root:dicomnode",
    ]
    assert "#port = 11112" in machine.run("cat", "/etc/dicomnode/dicomnode.toml").stdout
    machine.write("/etc/dicomnode/dicomnode.toml", CONFIGURATION)
    checked = machine.run("dicomnode", "check")
    assert "keys are there" in checked.stdout
    assert "pacs.hospital.test port 4242) answers C-ECHO" in checked.stdout


def test_verify_and_exposure(machine: Container) -> None:
    units = [f"/etc/systemd/system/{name}" for name in ("dicomnode.service", "dicomnode@one.service")]
    verified = machine.run("systemd-analyze", "verify", *units)
    assert (verified.stdout, verified.stderr) == ("", "")
    machine.run("systemd-analyze", "security", "--threshold=15", UNIT)  # tenths: at most 1.5


def test_start_is_ready_when_it_listens(machine: Container) -> None:
    machine.run("systemctl", "enable", "--now", UNIT)
    assert _active(machine)
    assert _show(machine, "StatusText") == "DICOMNODE listens on 0.0.0.0 port 11112"
    assert _echo(machine)


def test_process_is_confined(machine: Container) -> None:
    pid = _show(machine, "MainPID")
    status = dict(
        line.split(":\t", 1) for line in machine.run("cat", f"/proc/{pid}/status").stdout.splitlines() if ":\t" in line
    )
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["Uid"].split()[0] == machine.run("id", "-u", "dicomnode").stdout.strip()


def test_keys_are_credentials(machine: Container) -> None:
    given = machine.run("ls", "/run/credentials/dicomnode.service").stdout.split()
    assert given == ["dicomnode.derivation", "dicomnode.identity", "dicomnode.pseudonym"]
    assert machine.shell("find /var/lib/dicomnode -name '*.key' -o -name keys") == ""


def test_study_goes_all_the_way(machine: Container) -> None:
    """Into the PACS, by its rule to the node, back into the PACS."""
    machine.run("dcmsend", "-aec", "PACS", "127.0.0.1", "4242", "--scan-directories", "/mnt/first")

    def done() -> bool:
        studies = json.loads(machine.run("dicomnode", "studies", "--json").stdout)
        states = [work["state"] for study in studies for work in study["works"] if work["state"] != "superseded"]
        assert not set(states) & {"failed", "refused"}, studies
        return states == ["done"]

    wait_for(done, 300, what="the study")
    modalities = {str(series["MainDicomTags"]["Modality"]) for series in _pacs(machine, "series")}
    assert modalities == {"CT", "KO", "SEG", "SR", "OT"}
    (patient,) = _pacs(machine, "patients")
    assert patient["MainDicomTags"]["PatientName"] == "Kowalska^Nadzwyczajna"


def test_journal_has_events_and_no_names(machine: Container) -> None:
    names = {str(event["event"]) for event in _events(machine)}
    assert {"node.ready", "association.opened", "study.arrived", "work.ended", "delivery.confirmed"} <= names
    journal = machine.run("journalctl", "--no-pager", "-o", "export", f"_SYSTEMD_UNIT={UNIT}").stdout
    assert not re.search("Kowalska|GEHEIM", journal)


def test_state_is_private_and_sealed(machine: Container) -> None:
    """Sealed, nobody else's to read, and with nothing in it that a library dropped there."""
    present = set(machine.run("ls", "-A", "/var/lib/dicomnode").stdout.split())
    known = {"clock.json", "key-names.json", "ledger.sqlite", "ledger.sqlite-shm", "ledger.sqlite-wal", "node.lock"}
    known |= {"objects", "spool", "spool.id"}
    assert present - known == set()
    loose = machine.shell(r"find /var/lib/dicomnode \( ! -user dicomnode -o -perm /077 \) -printf '%p %u %m\n'")
    assert loose == ""
    found = machine.run("grep", "-rlaE", "Kowalska|GEHEIM", "/var/lib/dicomnode", check=False)
    assert (found.returncode, found.stdout) == (1, "")


def test_stop_drains_an_open_association(machine: Container) -> None:
    image = machine.shell("ls /mnt/second/*.dcm | head -n 1").strip()
    sender = machine.start("/opt/dicomnode/current/bin/python", "/srv/sender.py", image)
    assert sender.stdin is not None
    assert sender.stdout is not None
    assert sender.stdout.readline() == "established True\n"
    machine.run("systemctl", "stop", "--no-block", UNIT)
    wait_for(lambda: not _echo(machine), what="the end of listening")
    assert _show(machine, "ActiveState") == "deactivating"
    assert _show(machine, "StatusText") == "Draining"
    sender.stdin.write("go on\n")
    sender.stdin.flush()
    assert sender.stdout.readline() == "status 0\n"
    assert sender.wait(30) == 0
    sender.stdin.close()
    sender.stdout.close()
    wait_for(lambda: _show(machine, "ActiveState") == "inactive", 60, what="the end of the drain")
    assert (_show(machine, "Result"), _show(machine, "ExecMainStatus")) == ("success", "0")
    assert [event["event"] for event in _events(machine)][-1] == "node.stopped"


def test_kill_brings_it_back(machine: Container) -> None:
    machine.run("systemctl", "start", UNIT)
    machine.run("kill", "-9", _show(machine, "MainPID"))
    wait_for(lambda: _show(machine, "NRestarts") == "1" and _active(machine), 60, what="the restart")
    assert _echo(machine)
    studies = json.loads(machine.run("dicomnode", "studies", "--json").stdout)
    assert sorted(study["instances"] for study in studies)[0] == 1  # the one that came during the drain
    assert len(studies) == 2


def test_stop_in_the_middle_of_work_ends_with_one_set(machine: Container) -> None:
    """SIGTERM while the network runs: a clean end, and after the next start exactly one set of results in the PACS.

    The images are JPEG-LS: the child that decodes them works in the sandbox too.
    """
    machine.shell(
        "mkdir /srv/lossless; for file in /mnt/second/*.dcm; do dcmcjpls $file /srv/lossless/${file##*/}; done"
    )
    begun = len(_events(machine))
    machine.run(
        "dcmsend", "-aec", "DICOMNODE", "-aet", "CT1", "127.0.0.1", "11112", "--scan-directories", "/srv/lossless"
    )

    def infers() -> bool:
        return any(event["event"] == "stage.begun" and event["stage"] == "infer" for event in _events(machine)[begun:])

    wait_for(infers, 120, what="the network")
    machine.run("systemctl", "stop", UNIT)
    assert (_show(machine, "Result"), _show(machine, "ExecMainStatus")) == ("success", "0")
    machine.run("systemctl", "start", UNIT)

    def done() -> bool:
        studies = json.loads(machine.run("dicomnode", "studies", "--json").stdout)
        latest = [max(study["works"], key=lambda work: work["revision"]) for study in studies]
        return [work["state"] for work in latest] == ["done", "done"]

    wait_for(done, 300, what="both studies")
    found = sorted(str(series["MainDicomTags"]["Modality"]) for series in _pacs(machine, "series"))
    assert found == ["CT", "KO", "KO", "OT", "OT", "SEG", "SEG", "SR", "SR"]


def test_watchdog_ends_a_stuck_node(machine: Container) -> None:
    machine.shell(
        "mkdir -p /run/systemd/system/dicomnode.service.d; cd /run/systemd/system/dicomnode.service.d;"
        "printf '[Service]\\nWatchdogSec=4\\nRestartSec=1\\n' > fast.conf; systemctl daemon-reload;"
        "systemctl restart dicomnode"
    )
    before = int(_show(machine, "NRestarts"))
    machine.run("kill", "-STOP", _show(machine, "MainPID"))
    wait_for(lambda: int(_show(machine, "NRestarts")) > before and _active(machine), 60, what="the restart")
    said = machine.run("journalctl", "-u", UNIT, "--no-pager", "-o", "cat").stdout
    assert "Failed with result 'watchdog'" in said
    machine.shell("rm /run/systemd/system/dicomnode.service.d/fast.conf; systemctl daemon-reload")


def test_port_104(machine: Container) -> None:
    machine.write("/etc/dicomnode/dicomnode.toml", CONFIGURATION.replace("port = 11112", "port = 104", 1))
    drop_in = "/etc/systemd/system/dicomnode.service.d/port-104.conf"
    machine.run("install", "-D", "-m", "0644", "/mnt/bundle/systemd/port-104.conf", drop_in)
    machine.shell("systemctl daemon-reload; systemctl restart dicomnode")
    assert _echo(machine, 104)
    machine.write("/etc/dicomnode/dicomnode.toml", CONFIGURATION)
    machine.shell(f"rm {drop_in}; systemctl daemon-reload; systemctl restart dicomnode")


def test_tls(machine: Container) -> None:
    """Certificates of certs/'s recipe, a private key that only root and the service may read, DCMTK as the PACS."""
    settings = (REPOSITORY / "certs" / "README.md").read_text("utf-8")
    (listen,) = re.findall(r"^\[listen\]\n(tls = .*\n)", settings, re.MULTILINE)
    machine.shell(
        "/mnt/bundle/certs/make-development-ca.sh /srv/tls localhost,127.0.0.1;"
        "install -m 0640 -g dicomnode /srv/tls/node.key /etc/dicomnode/tls/;"
        "install -m 0644 /srv/tls/node.pem /srv/tls/authority.pem /etc/dicomnode/tls/"
    )
    machine.write("/etc/dicomnode/dicomnode.toml", CONFIGURATION.replace("[listen]\n", f"[listen]\n{listen}"))
    machine.run("systemctl", "restart", UNIT)
    titles = ["-aec", "DICOMNODE", "-aet", "PACS"]
    tls = ["+tls", "/srv/tls/pacs.key", "/srv/tls/pacs.pem", "+cf", "/srv/tls/authority.pem", "-rc"]
    machine.run("echoscu", *tls, *titles, "127.0.0.1", "2762")
    assert not _echo(machine)  # the plain port is closed then
    assert not _echo(machine, 2762)  # without TLS
    machine.write("/etc/dicomnode/dicomnode.toml", CONFIGURATION)
    machine.run("systemctl", "restart", UNIT)


def test_instance(machine: Container) -> None:
    machine.write("/etc/dicomnode/two.toml", "[listen]\nport = 11113\n[intake]\nminimum_free_bytes = 0\n")
    machine.shell(
        "install -d -m 0700 /etc/dicomnode/keys/two; umask 0377;"
        "for name in identity pseudonym derivation; do openssl rand -hex 32 > /etc/dicomnode/keys/two/$name.key; done"
    )
    machine.run("systemctl", "start", "dicomnode@two.service")
    assert _echo(machine, 11113)
    machine.run("systemctl", "stop", "dicomnode@two.service")
    assert machine.shell("stat -c '%a %U' /var/lib/dicomnode-two").strip() == "700 dicomnode"


def test_upgrade_keeps_keys_and_configuration(machine: Container) -> None:
    kept = "sha256sum /etc/dicomnode/dicomnode.toml /etc/dicomnode/keys/*.key"
    before, pid = machine.shell(kept), _show(machine, "MainPID")
    said = machine.run("/mnt/bundle/deploy/install.sh", seconds=600).stdout
    assert "The node runs version" in said
    assert machine.shell(kept) == before
    assert _active(machine)
    assert _show(machine, "MainPID") != pid
    assert len(machine.shell("ls /opt/dicomnode/releases").split()) == 2
    assert len(json.loads(machine.run("dicomnode", "studies", "--json").stdout)) == 2


def test_start_without_a_key_fails_and_touches_nothing(machine: Container) -> None:
    machine.shell("systemctl stop dicomnode; mv /etc/dicomnode/keys/identity.key /srv/")
    started = machine.run("systemctl", "start", UNIT, check=False)
    assert started.returncode != 0
    assert "status=243/CREDENTIALS" in machine.run("journalctl", "-u", UNIT, "--no-pager", "-o", "cat").stdout
    again = machine.run("/mnt/bundle/deploy/install.sh", check=False, seconds=600)
    assert again.returncode == 1
    assert "holds 2 of 3 keys" in again.stderr
    machine.shell(
        "mv /srv/identity.key /etc/dicomnode/keys/; systemctl reset-failed dicomnode; systemctl start dicomnode"
    )
    assert _echo(machine)


def test_credentials_bound_to_the_machine(machine: Container) -> None:
    """systemd/README.md's recipe: the plain keys are gone from the disk, and the node opens its state."""
    names = ("identity", "pseudonym", "derivation")
    lines = [f"LoadCredentialEncrypted=dicomnode.{name}:/etc/dicomnode/keys/{name}.cred" for name in names]
    machine.run("mkdir", "-p", "/etc/systemd/system/dicomnode.service.d")
    drop_in = "/etc/systemd/system/dicomnode.service.d/override.conf"
    machine.write(drop_in, "\n".join(["[Service]", "LoadCredential=", *lines, ""]))
    machine.shell(
        "cd /etc/dicomnode/keys; for name in identity pseudonym derivation; do"
        " systemd-creds encrypt --name=dicomnode.$name $name.key $name.cred; done;"
        "mkdir /srv/safe; mv *.key /srv/safe/; systemctl daemon-reload; systemctl restart dicomnode"
    )
    assert _echo(machine)
    machine.shell(
        f"mv /srv/safe/*.key /etc/dicomnode/keys/; rm {drop_in} /etc/dicomnode/keys/*.cred;"
        "systemctl daemon-reload; systemctl restart dicomnode"
    )


def test_backup_opens_on_another_machine(machine: Container) -> None:
    """State and keys are the whole of a node: restored elsewhere, they open."""
    machine.shell(
        "systemctl stop dicomnode; tar -C / -cpf /srv/backup.tar etc/dicomnode var/lib/dicomnode;"
        "rm -rf /etc/dicomnode /var/lib/dicomnode; tar -C / -xpf /srv/backup.tar; systemctl start dicomnode"
    )
    assert len(json.loads(machine.run("dicomnode", "studies", "--json").stdout)) == 2


def test_uninstall_keeps_data(machine: Container) -> None:
    machine.run("/mnt/bundle/deploy/install.sh", "--uninstall")
    assert not machine.shell("ls -d /opt/dicomnode /etc/systemd/system/dicomnode*.service 2>/dev/null", check=False)
    machine.shell("test -f /var/lib/dicomnode/ledger.sqlite; test -f /etc/dicomnode/keys/identity.key")


def test_install_refuses_a_state_without_keys(machine: Container) -> None:
    machine.run("mv", "/etc/dicomnode/keys", "/srv/keys")
    refused = machine.run("/mnt/bundle/deploy/install.sh", check=False)
    assert refused.returncode == 1
    assert "holds sealed data, but its keys are gone" in refused.stderr
    assert not machine.shell("ls -d /opt/dicomnode 2>/dev/null", check=False)


def test_install_takes_over_the_keys_of_a_node_that_made_its_own(machine: Container) -> None:
    machine.run("mv", "/srv/keys", "/var/lib/dicomnode/keys")
    machine.run("/mnt/bundle/deploy/install.sh", seconds=600)
    kept = machine.shell("cd /etc/dicomnode/keys; sha256sum *.key")
    assert kept == machine.shell("cd /var/lib/dicomnode/keys; sha256sum *.key")
    machine.shell("rm -r /var/lib/dicomnode/keys; systemctl start dicomnode")
    assert len(json.loads(machine.run("dicomnode", "studies", "--json").stdout)) == 2
