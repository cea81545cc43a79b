"""De-identified studies leave for research, ordered beside a running node: into a folder, by C-STORE, by STOW-RS; also through kills."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]

from dicomnode.results.context import MANUFACTURER, MODEL_NAME
from dicomnode.storage import audit
from tests import tools
from tests.journey.running_node import RunningNode
from tests.journey.studies import write_study
from tests.neighbours import Orthanc, free_port, listens, storescu, wait_for
from tests.network.s3 import KEY, SECRET, Moto, toml


def into(folder: Path, name: str = "trial") -> str:
    return f'[[exports]]\nname = "{name}"\nproject = "p1"\ninto = "{folder}"\n'


def digests(folder: Path) -> dict[str, str]:
    """Every file that has its name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.dcm"))
    }


def study_key(node: RunningNode, objects: int) -> str:
    """Key of the one study, once it is here."""
    wait_for(lambda: [one.instances for one in node.studies()] == [objects], 60, what="the study")
    return node.studies()[0].study_key


def own(index: int, ds: Dataset) -> None:
    """The first image is a result of a dicomnode, in a series of its own."""
    if index == 0:
        ds.SeriesInstanceUID = f"{ds.SeriesInstanceUID}.9"
        ds.Manufacturer, ds.ManufacturerModelName = MANUFACTURER, MODEL_NAME


def trail(node: RunningNode) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (node.state / "audit.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_study_leaves_de_identified_for_a_folder_and_a_peer(tmp_path: Path) -> None:
    storescp, _ = tools.require("storescp"), tools.require("storescu")
    paths, who = write_study(tmp_path / "study", "export", change=own)
    port, came, out = free_port(), tmp_path / "came", tmp_path / "out"
    came.mkdir()
    peer = f'[[exports]]\nname = "peer"\nproject = "p1"\nae_title = "SCP"\nhost = "127.0.0.1"\nport = {port}\n'
    settings = into(out) + peer
    server = subprocess.Popen(
        [storescp, "-od", came, "+xa", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: listens(port), what="storescp")
        with RunningNode(tmp_path / "node", settings) as node:
            assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
            key = study_key(node, len(paths))
            for name in ("trial", "peer", "trial"):
                ordered = node.command("export", key[:8], "--to", name)
                assert (ordered.returncode, ordered.stderr) == (0, "")
            sent = {name: node.wait_for_event("export.done", destination=name) for name in ("trial", "peer")}
            log = node.log()
            audit.verify(node.state)
            lines = trail(node)
    finally:
        server.terminate()
        server.wait(30)
    assert [(one["sent"], one["withheld"], one["refused"]) for one in sent.values()] == [(len(paths) - 1, 1, 0)] * 2
    assert {one["event"] for one in lines} == {"order-export", "export"}
    written = {path.stem: dcmread(path) for path in out.rglob("*.dcm")}
    arrived = {str(ds.SOPInstanceUID): ds for ds in map(dcmread, came.iterdir())}
    assert len(written) == len(paths) - 1
    assert {uid: bytes(ds.PixelData) for uid, ds in written.items()} == {
        uid: bytes(ds.PixelData) for uid, ds in arrived.items()
    }
    for ds in written.values():
        assert ds.PatientIdentityRemoved == "YES"
        assert who.uid("study") not in str(ds)
    everything = b"".join(path.read_bytes() for path in out.rglob("*.dcm"))
    source = dcmread(paths[1])
    for secret in (str(source.PatientID), who.uid("study"), str(source.SOPInstanceUID)):
        assert secret.encode() not in everything
        assert secret not in log + json.dumps(lines) + " ".join(map(str, out.rglob("*")))


@pytest.mark.slow
def test_kills_change_nothing_of_what_is_exported(tmp_path: Path) -> None:
    tools.require("storescu")
    paths, _ = write_study(tmp_path / "study", "export-kill")
    outs, again = {f"trial{one}": tmp_path / f"out{one}" for one in range(6)}, tmp_path / "again"
    places = "".join(into(folder, name) for name, folder in outs.items())
    with RunningNode(tmp_path / "node", places + into(again, "again")) as node:
        assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
        key = study_key(node, len(paths))
        for name, out in outs.items():  # until a kill falls into the midst of one
            seen = killed_on_its_way(node, key, name, out, len(paths))
            assert len(digests(out)) == len(paths)
            assert not list(out.rglob("*.new"))
            if 0 < seen[0] < len(paths):
                break
        assert node.command("export", key, "--to", "again").returncode == 0
        assert node.wait_for_event("export.done", destination="again")["sent"] == len(paths)
    assert 0 < seen[0] < len(paths), f"killed too late to prove anything: {seen}"
    assert len(digests(again)) == len(paths)
    assert contents(out) == contents(again)


def contents(folder: Path) -> list[str]:
    """Of all files, whatever they are called."""
    return sorted(digests(folder).values())


def killed_on_its_way(node: RunningNode, key: str, name: str, out: Path, count: int) -> list[int]:
    """Order an export and kill the node at most six times while it goes; how many files were there at each kill."""
    assert node.command("export", key, "--to", name).returncode == 0
    seen: list[int] = []
    for _ in range(6):
        before = len(digests(out))
        ended = time.monotonic() + 60
        while len(digests(out)) == before and time.monotonic() < ended and len(digests(out)) < count:
            time.sleep(0.0005)
        node.kill()
        seen.append(len(digests(out)))
        node.start()
        if seen[-1] == count:
            break
    wait_for(lambda: len(digests(out)) == count, 120, what="all files")
    wait_for(lambda: "export of" not in node.command("status").stdout, 60, what="the order to go")
    return seen


@pytest.mark.slow
def test_a_study_leaves_by_stow_after_an_outage(tmp_path: Path) -> None:
    plugin = tools.require_file("/usr/share/orthanc/plugins/libOrthancDicomWeb.so", setup="make setup")
    orthanc = Orthanc(tmp_path / "orthanc", plugins=[plugin])
    paths, who = write_study(tmp_path / "study", "export-stow")
    web = f'[[exports]]\nname = "web"\nproject = "p1"\nurl = "http://127.0.0.1:{orthanc.http_port}/dicom-web"\n'
    with RunningNode(tmp_path / "node", web) as node:
        assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
        assert node.command("export", study_key(node, len(paths)), "--to", "web").returncode == 0
        assert node.wait_for_event("export.failed")["reason"] == "peer-unreachable"
        orthanc.start()
        try:
            assert node.wait_for_event("export.done")["sent"] == len(paths)
            shown = [orthanc.get(f"/instances/{one}/simplified-tags") for one in orthanc.instances()]
        finally:
            orthanc.stop()
    assert len(shown) == len(paths)
    assert who.uid("study") not in json.dumps(shown)
    assert {one["PatientIdentityRemoved"] for one in shown} == {"YES"}


@pytest.mark.slow
def test_a_study_leaves_for_a_bucket_through_kills_once(tmp_path: Path) -> None:
    moto = Moto(tmp_path / "moto").start()
    paths, who = write_study(tmp_path / "study", "export-s3")
    credentials = tmp_path / "credentials"
    credentials.write_text(f"[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    credentials.chmod(0o400)
    names = [f"bucket{number}" for number in range(5)]
    places = "".join(
        f'[[exports]]\nname = "{name}"\nproject = "p1"\n'
        f"s3 = {toml(moto.section(prefix=name, credentials_file=str(credentials)))}\n"
        for name in (*names, "again")
    )

    def there(prefix: str) -> int:
        return sum(one.startswith(f"{prefix}/") for one in moto.names())

    try:
        with RunningNode(tmp_path / "node", places) as node:
            assert storescu(node.port, *paths, called="DICOMNODE").returncode == 0
            key = study_key(node, len(paths))
            for name in names:  # until a kill falls into the midst of one
                assert node.command("export", key, "--to", name).returncode == 0
                wait_for(lambda name=name: there(name) > 0, 60, what="an object")  # type: ignore[misc]
                node.kill()
                killed_at = there(name)
                node.start()
                wait_for(lambda name=name: there(name) == len(paths), 90, what="all objects")  # type: ignore[misc]
                wait_for(lambda: "export of" not in node.command("status").stdout, 60, what="the order to go")
                if killed_at < len(paths):
                    break
            assert node.command("export", key, "--to", "again").returncode == 0
            assert node.wait_for_event("export.done", destination="again")["sent"] == len(paths)
            log = node.log()
        found = moto.objects()
    finally:
        moto.stop()
    assert killed_at < len(paths), "killed too late to prove anything"
    once, again = (
        sorted(hashlib.sha256(data).hexdigest() for one, data in found.items() if one.startswith(f"{prefix}/"))
        for prefix in (name, "again")
    )
    assert once == again
    assert len(once) == len(paths)
    for secret in (SECRET, KEY, who.uid("study")):
        assert secret not in log + json.dumps(trail(node)) + " ".join(found)


@pytest.mark.slow
def test_a_rule_orders_exports_by_itself_also_of_what_comes_late(tmp_path: Path) -> None:
    """CT of one sender leaves, of another not; audited with the rule's name; a late instance follows, nothing twice."""
    tools.require("storescu")
    out = tmp_path / "out"
    rules = (
        '[[rules]]\nname = "for-the-trial"\ncalling_ae_titles = ["TRIAL"]\nmodels = []\nexport = "trial"\n'
        '[[rules]]\nname = "all"\nmodalities = ["CT"]\n'
    )
    paths, who = write_study(tmp_path / "study", "by-rule")
    others, _ = write_study(tmp_path / "other", "not-by-rule")
    with RunningNode(tmp_path / "node", into(out) + rules) as node:
        assert storescu(node.port, "-aet", "CT1", *others, called="DICOMNODE").returncode == 0
        assert storescu(node.port, "-aet", "TRIAL", *paths[:-1], called="DICOMNODE").returncode == 0
        assert node.wait_for_event("export.done")["sent"] == len(paths) - 1
        first = digests(out)
        assert len(first) == len(paths) - 1
        with node._changed:
            node.events.clear()
        assert storescu(node.port, "-aet", "TRIAL", paths[-1], called="DICOMNODE").returncode == 0
        assert node.wait_for_event("export.done")["sent"] == len(paths)
        lines = trail(node)
        audit.verify(node.state)
    assert first.items() <= digests(out).items()
    assert len(digests(out)) == len(paths)
    ordered = [one for one in lines if one["event"] == "order-export"]
    assert {(one["rules"], one["destination"]) for one in ordered} == {("for-the-trial", "trial")}
    assert len({one["study_key"] for one in ordered}) == 1
    assert who.uid("study") not in json.dumps(lines)


class HeldBack:
    """A research system on loopback that takes whatever it is sent, once it is let."""

    def __init__(self) -> None:
        self.came: set[str] = set()
        self.asked, self.released = threading.Event(), threading.Event()
        entity = AE("RESEARCH")
        entity.add_supported_context(CTImageStorage)
        stored = [(evt.EVT_C_STORE, self._stored)]
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=stored)
        self.port = int(self._server.socket.getsockname()[1])

    def _stored(self, event: evt.Event) -> int:
        self.asked.set()
        self.released.wait(120)
        self.came.add(str(event.request.AffectedSOPInstanceUID))
        return 0

    def end(self) -> None:
        self.released.set()
        self._server.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_late_image_leaves_too_and_a_slow_peer_keeps_no_other_export_waiting(tmp_path: Path, killed: bool) -> None:
    """All but one image of a study is on its way to a peer that takes its time, when the last one comes."""
    tools.require("storescu")
    out, slow = tmp_path / "out", HeldBack()
    rule = '[[rules]]\nname = "for-the-trial"\nmodels = []\nexport = "slow"\n'
    place = f'ae_title = "RESEARCH"\nhost = "127.0.0.1"\nport = {slow.port}\ntimeout_seconds = 200\n'
    settings = into(out) + f'[[exports]]\nname = "slow"\nproject = "p1"\n{place}' + rule
    paths, _ = write_study(tmp_path / "study", f"late for its export {killed}")
    try:
        with RunningNode(tmp_path / "node", settings) as node:
            assert storescu(node.port, *paths[:-1], called="DICOMNODE").returncode == 0
            assert slow.asked.wait(90)
            key = study_key(node, len(paths) - 1)
            assert storescu(node.port, paths[-1], called="DICOMNODE").returncode == 0
            wait_for(
                lambda: [one["event"] for one in trail(node)].count("order-export") == 2, 60, what="the order anew"
            )
            assert node.command("export", key, "--to", "trial").returncode == 0
            assert node.wait_for_event("export.done", destination="trial")["sent"] == len(paths)
            assert not slow.came, "the other one has not even taken its first object"
            if killed:
                node.kill()
                node.start()
            slow.released.set()
            wait_for(lambda: "export of" not in node.command("status").stdout, 90, what="the order to go")
            audit.verify(node.state)
    finally:
        slow.end()
    assert len(slow.came) == len(paths)
    assert slow.came == {path.stem for path in out.rglob("*.dcm")}
