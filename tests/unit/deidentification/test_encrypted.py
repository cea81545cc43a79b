"""Original attributes enclosed in an export: for recipients alone, whole, and refused when changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from dicomnode.cli.main import app
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.encrypted import restore
from dicomnode.deidentification.policy import EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.encoded import Limits, encode_part10, read_part10
from dicomnode.errors import KeyStoreError, StudyError
from dicomnode.storage import recipients
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import report, rt_structure_set

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
LIMITS = Limits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    recipients.public_certificate(made)
    return made


def exported(source: Dataset, folder: Path) -> bytes:
    certificate = recipients.certificates((folder / "reidentify.pem",))
    done = Deidentifier(EXPORT, PSEUDONYMS, recipients=certificate).deidentify(source)
    return encode_part10(done.dataset, transfer_syntax_uid=str(done.dataset.file_meta.TransferSyntaxUID))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [planted.EXPLICIT, planted.IMPLICIT])
@pytest.mark.parametrize("make", [report, rt_structure_set])
def test_a_recipient_gets_every_attribute_back(make: object, syntax: str, folder: Path) -> None:
    one = make()  # type: ignore[operator]
    source = read_part10(planted.encoded(one.dataset, syntax), LIMITS)
    data = exported(source, folder)
    assert one.leaks(data) == []
    certificate = recipients.certificates((folder / "reidentify.pem",))[0]
    key = recipients.private_key(folder / "reidentify.key")
    restored = restore(read_part10(data, LIMITS), certificate, key, LIMITS)
    differing = [element.keyword or str(element.tag) for element in source if restored.get(element.tag) != element]
    added = [element.keyword for element in restored if element.tag not in source]
    assert (differing, added) == ([], [])


def test_flags_that_the_source_had_already_come_back(folder: Path) -> None:
    ds = planted.slice_of_ct()
    ds.PatientIdentityRemoved, ds.LongitudinalTemporalInformationModified = "YES", "MODIFIED"
    ds.RecognizableVisualFeatures, ds.DeidentificationMethod = "NO", "dicomnode export"
    source = read_part10(planted.encoded(ds), LIMITS)
    certificate = recipients.certificates((folder / "reidentify.pem",))[0]
    key = recipients.private_key(folder / "reidentify.key")
    restored = restore(read_part10(exported(source, folder), LIMITS), certificate, key, LIMITS)
    differing = [element.keyword or str(element.tag) for element in source if restored.get(element.tag) != element]
    added = [element.keyword for element in restored if element.tag not in source]
    assert (differing, added) == ([], [])


def test_others_and_changed_envelopes_are_refused(folder: Path, tmp_path: Path) -> None:
    recipients.public_certificate(tmp_path)
    dataset = read_part10(exported(read_part10(planted.encoded(planted.slice_of_ct()), LIMITS), folder), LIMITS)
    mine = recipients.certificates((folder / "reidentify.pem",))[0]
    key = recipients.private_key(folder / "reidentify.key")
    other = recipients.certificates((tmp_path / "reidentify.pem",))[0]
    with pytest.raises(KeyStoreError):
        restore(dataset, other, recipients.private_key(tmp_path / "reidentify.key"), LIMITS)
    item = dataset.EncryptedAttributesSequence[0]
    whole = bytes(item.EncryptedContent)
    for spoilt in (whole[: len(whole) // 2], b"\x30\x82\xff\xff" + whole[4:], whole[:60] + b"\0\0\0\0" + whole[64:]):
        item.EncryptedContent = spoilt
        with pytest.raises(KeyStoreError):
            restore(dataset, mine, key, LIMITS)
    del dataset.EncryptedAttributesSequence
    with pytest.raises(StudyError) as caught:
        restore(dataset, mine, key, LIMITS)
    assert caught.value.code == "object-not-reidentifiable"


def test_out_and_back_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.dcm").write_bytes(planted.encoded(planted.slice_of_ct()))
    config = tmp_path / "c.toml"
    config.write_text(f'[deidentification]\nrecipients = ["{tmp_path}/state/keys/reidentify.pem"]\n')
    state = ["--state", str(tmp_path / "state")]

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, [*words, *state], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    run("deidentify", str(tmp_path / "in"), str(tmp_path / "plain"))
    run("keys", "export-public")
    run("deidentify", str(tmp_path / "in"), str(tmp_path / "out"), "-c", str(config))
    assert "1 of 1 files reidentified" in run("reidentify", str(tmp_path / "out"), str(tmp_path / "back"))
    back = read_part10(next((tmp_path / "back").iterdir()).read_bytes(), LIMITS)
    assert (back.PatientName, back.SOPInstanceUID) == ("Doe^Jane", planted.slice_of_ct().SOPInstanceUID)
    assert "object-not-reidentifiable" in run("reidentify", str(tmp_path / "plain"), str(tmp_path / "none"))
