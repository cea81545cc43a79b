"""Original attributes enclosed in an export: for recipients alone, whole, and refused when changed."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.x509 import Certificate
from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from typer.testing import CliRunner

from dicomnode.cli.main import app
from dicomnode.deidentification import encrypted
from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.encrypted import restore
from dicomnode.deidentification.policy import EXPORT
from dicomnode.deidentification.pseudonyms import Pseudonyms
from dicomnode.deidentification.reader import Reader
from dicomnode.deidentification.stored import BIG_ENDIAN
from dicomnode.encoded import Limits, encode_part10, read_dataset, read_part10
from dicomnode.errors import KeyStoreError, StudyError
from dicomnode.storage import audit, recipients
from tests import tools
from tests.unit.deidentification import planted
from tests.unit.deidentification.kinds_planted import report, rt_structure_set
from tests.unit.deidentification.pictures import Silent, capture, drawn

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
LIMITS = Limits()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys")
    recipients.public_certificate(made)
    return made


def exported(source: Dataset, folder: Path, reader: Reader | None = None) -> bytes:
    certificate = recipients.certificates((folder / "reidentify.pem",))
    done = Deidentifier(EXPORT, PSEUDONYMS, reader=reader, recipients=certificate).deidentify(source)
    return encode_part10(done.dataset, transfer_syntax_uid=str(done.dataset.file_meta.TransferSyntaxUID))


@pytest.mark.parametrize(("first", "last", "because"), [(2020, 2021, "expired"), (9000, 9001, "not-yet-valid")])
def test_nothing_is_enclosed_for_a_certificate_that_is_not_valid_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: int, last: int, because: str
) -> None:
    monkeypatch.setattr(recipients, "_BEGIN", datetime(first, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(recipients, "_END", datetime(last, 1, 1, tzinfo=UTC))
    recipients.public_certificate(tmp_path)
    with pytest.raises(KeyStoreError) as caught:
        exported(planted.slice_of_ct(), tmp_path)
    assert (caught.value.code, caught.value.facts["because"]) == ("key-wrong", because)


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


@pytest.mark.filterwarnings("ignore")
def test_pixels_that_were_written_anew_are_described_as_they_are(folder: Path) -> None:
    """Blanked out of a compressed image in another colour space: what says how they are written is not the source's."""
    ds = capture([drawn()], "YBR_FULL_422")
    ds.SOPClassUID, ds.Modality, ds.BurnedInAnnotation = "1.2.840.10008.5.1.4.1.1.6.1", "US", "YES"
    del ds.ConversionType
    region = Dataset()
    region.RegionLocationMinX0, region.RegionLocationMinY0, region.RegionLocationMaxX1, region.RegionLocationMaxY1 = (
        0,
        60,
        255,
        255,
    )
    ds.SequenceOfUltrasoundRegions = Sequence([region])
    source = read_part10(planted.encoded(ds), LIMITS)
    output = read_part10(exported(source, folder, Silent()), LIMITS)
    certificate = recipients.certificates((folder / "reidentify.pem",))[0]
    restored = restore(output, certificate, recipients.private_key(folder / "reidentify.key"), LIMITS)
    assert output.PhotometricInterpretation == "RGB"
    assert output.BurnedInAnnotation == "NO"
    assert restored.BurnedInAnnotation == "NO"  # the source's YES is no longer true
    assert restored.PatientName == source.PatientName
    for keyword in ("PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated", "PixelData"):
        assert restored[keyword] == output[keyword]
    whole = read_part10(encode_part10(restored, transfer_syntax_uid=planted.EXPLICIT), LIMITS)
    assert np.array_equal(whole.pixel_array, output.pixel_array)


def test_words_come_back_in_the_order_of_the_object(folder: Path) -> None:
    """An envelope is little endian whatever encloses it (PS3.5 7.3)."""
    ds = planted.slice_of_ct()
    ds.add_new(0x60003000, "OW", b"\1\2\3\4\5\6\7\x08")
    ds.PixelData = ds.PixelData[::-1]
    source = read_part10(encode_part10(ds, transfer_syntax_uid=BIG_ENDIAN), LIMITS)
    certificate = recipients.certificates((folder / "reidentify.pem",))[0]
    key = recipients.private_key(folder / "reidentify.key")
    output = read_part10(exported(source, folder), LIMITS)
    restored = restore(output, certificate, key, LIMITS)
    assert restored.file_meta.TransferSyntaxUID == BIG_ENDIAN
    assert restored[0x60003000].value == source[0x60003000].value == ds[0x60003000].value
    output.file_meta.TransferSyntaxUID = planted.EXPLICIT  # as one that was written anew
    assert restore(output, certificate, key, LIMITS)[0x60003000].value == b"\2\1\4\3\6\5\x08\7"


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


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[Certificate, RSAPrivateKey]:
    certificate = recipients.certificates((folder / "reidentify.pem",))[0]
    return certificate, recipients.private_key(folder / "reidentify.key")


def two(folder: Path) -> list[Dataset]:
    """De-identified objects of two patients."""
    made = []
    for number, name in enumerate(("Doe^Jane", "Wolkenstein^Oda")):
        ds = planted.slice_of_ct()
        ds.PatientName, ds.SOPInstanceUID = name, f"{ds.SOPInstanceUID}.{number}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        made.append(read_part10(exported(read_part10(planted.encoded(ds), LIMITS), folder), LIMITS))
    return made


def test_an_envelope_put_into_another_object_is_refused(folder: Path, pair: tuple[Certificate, RSAPrivateKey]) -> None:
    first, second = two(folder)
    assert [str(restore(one, *pair, LIMITS).PatientName) for one in (first, second)] == ["Doe^Jane", "Wolkenstein^Oda"]
    first.EncryptedAttributesSequence = second.EncryptedAttributesSequence
    with pytest.raises(KeyStoreError) as caught:
        restore(first, *pair, LIMITS)
    assert caught.value.code == "key-wrong"


def test_no_flipped_bit_comes_back_as_another_value(folder: Path, pair: tuple[Certificate, RSAPrivateKey]) -> None:
    """CBC opens what was changed, and gives other values: one bit in each of some hundred places."""
    dataset, _ = two(folder)
    good = restore(dataset, *pair, LIMITS)
    item = dataset.EncryptedAttributesSequence[0]
    whole = bytes(item.EncryptedContent)
    opened, codes = 0, set()
    for place in range(0, len(whole), 7):
        item.EncryptedContent = whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        try:
            found = restore(dataset, *pair, LIMITS)
        except KeyStoreError as error:  # and nothing else: it was changed, the object is well-formed
            codes.add(error.code)
            continue
        opened += 1
        assert found == good, place
    assert opened < 100, "what is not of the content alone may be changed"
    assert codes == {"key-wrong"}


def test_an_envelope_of_another_writer_is_opened(
    folder: Path, pair: tuple[Certificate, RSAPrivateKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without our mark: by PS3.15 E.1.1 it needs none, and our own exports had none before."""
    monkeypatch.setattr(encrypted, "_mark", lambda *_: b"")
    dataset, _ = two(folder)
    monkeypatch.undo()
    assert restore(dataset, *pair, LIMITS).PatientName == "Doe^Jane"


@pytest.mark.parametrize("number", [0, 1])
def test_openssl_opens_it_for_each_of_two_recipients(folder: Path, tmp_path: Path, number: int) -> None:
    tools.require("openssl")
    recipients.public_certificate(tmp_path)
    folders = (folder, tmp_path)
    certificates = recipients.certificates(tuple(one / "reidentify.pem" for one in folders))
    source = read_part10(planted.encoded(planted.slice_of_ct()), LIMITS)
    done = Deidentifier(EXPORT, PSEUDONYMS, recipients=certificates).deidentify(source).dataset
    item = done.EncryptedAttributesSequence[0]
    (tmp_path / "envelope.der").write_bytes(item.EncryptedContent)
    pair = ["-inkey", str(folders[number] / "reidentify.key"), "-recip", str(folders[number] / "reidentify.pem")]
    command = ["openssl", "cms", "-decrypt", "-inform", "DER", "-in", str(tmp_path / "envelope.der"), *pair]
    opened = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    content = read_dataset(opened, item.EncryptedContentTransferSyntaxUID, LIMITS)
    originals = content.ModifiedAttributesSequence[0]
    lost = [
        element.keyword
        for element in source
        if element.tag.group < 0x7FE0 and done.get(element.tag) != element and originals.get(element.tag) != element
    ]
    assert lost == []
    assert originals.PatientName == source.PatientName


@pytest.mark.parametrize("uid", ["../../elsewhere", "/{}/elsewhere", "..", "1.2/3", "1" * 300])
def test_an_envelope_names_no_file_outside_the_output(folder: Path, tmp_path: Path, uid: str) -> None:
    """Whoever has the certificate can enclose what he likes."""
    source = read_part10(planted.encoded(planted.slice_of_ct()), LIMITS)
    output = Deidentifier(EXPORT, PSEUDONYMS).deidentify(source).dataset
    uid = uid.format(tmp_path)
    source[0x00080018] = DataElement(0x00080018, "UI", uid, validation_mode=config.IGNORE)
    encrypted.enclose(source, output, recipients.certificates((folder / "reidentify.pem",)))
    (tmp_path / "a" / "out").mkdir(parents=True)
    data = encode_part10(output, transfer_syntax_uid=str(output.file_meta.TransferSyntaxUID))
    (tmp_path / "a" / "out" / "one.dcm").write_bytes(data)
    keys = ["--key", str(folder / "reidentify.key"), "--certificate", str(folder / "reidentify.pem")]
    words = ["reidentify", str(tmp_path / "a" / "out"), str(tmp_path / "a" / "back"), *keys]
    done = CliRunner().invoke(app, [*words, "--state", str(tmp_path / "state")])
    assert done.exit_code == 0, done.output
    written = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.dcm")]
    assert sorted(written) == ["a/back/one.dcm", "a/out/one.dcm"]


def test_a_class_that_is_no_uid_costs_its_object_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for number, one in enumerate(two(folder)):
        if number:
            source = read_part10(planted.encoded(planted.slice_of_ct()), LIMITS)
            source[0x00080016] = DataElement(0x00080016, "UI", "1.2\xc4", validation_mode=config.IGNORE)
            encrypted.enclose(source, one, recipients.certificates((folder / "reidentify.pem",)))
        data = encode_part10(one, transfer_syntax_uid=str(one.file_meta.TransferSyntaxUID))
        (tmp_path / "out" / f"{number}.dcm").write_bytes(data)
    keys = ["--key", str(folder / "reidentify.key"), "--certificate", str(folder / "reidentify.pem")]
    words = ["reidentify", str(tmp_path / "out"), str(tmp_path / "back"), *keys]
    done = CliRunner().invoke(app, [*words, "--state", str(tmp_path / "state")])
    assert done.exit_code == 0, done.output
    assert "object-malformed" in done.output
    assert len(list((tmp_path / "back").iterdir())) == 1


def test_one_object_that_cannot_be_opened_does_not_keep_the_others(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for number, one in enumerate(two(folder)):
        if number:
            content = bytes(one.EncryptedAttributesSequence[0].EncryptedContent)
            one.EncryptedAttributesSequence[0].EncryptedContent = content[:300]
        data = encode_part10(one, transfer_syntax_uid=str(one.file_meta.TransferSyntaxUID))
        (tmp_path / "out" / f"{number}.dcm").write_bytes(data)

    def run(source: Path, output: Path) -> Result:
        keys = ["--key", str(folder / "reidentify.key"), "--certificate", str(folder / "reidentify.pem")]
        words = ["reidentify", str(source), str(output), *keys, "--state", str(tmp_path / "state")]
        return CliRunner().invoke(app, words)

    done = run(tmp_path / "out", tmp_path / "back")
    assert done.exit_code == 0, done.output
    assert "1 of 2 files reidentified" in done.output
    assert "key-wrong" in done.output
    assert len(list((tmp_path / "back").iterdir())) == 1
    none = run(tmp_path / "out" / "1.dcm", tmp_path / "none")
    assert isinstance(none.exception, KeyStoreError), "where nothing opens, it is the key"


def test_out_and_back_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "one.dcm").write_bytes(planted.encoded(planted.slice_of_ct()))
    settings = tmp_path / "c.toml"
    settings.write_text(f'[deidentification]\nrecipients = ["{tmp_path}/state/keys/reidentify.pem"]\n')
    state = ["--state", str(tmp_path / "state")]

    def run(*words: str) -> str:
        result = CliRunner().invoke(app, [*words, *state], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    run("deidentify", str(tmp_path / "in"), str(tmp_path / "plain"))
    run("keys", "export-public")
    run("deidentify", str(tmp_path / "in"), str(tmp_path / "out"), "-c", str(settings))
    assert "1 of 1 files reidentified" in run("reidentify", str(tmp_path / "out"), str(tmp_path / "back"))
    back = read_part10(next((tmp_path / "back").iterdir()).read_bytes(), LIMITS)
    assert (back.PatientName, back.SOPInstanceUID) == ("Doe^Jane", planted.slice_of_ct().SOPInstanceUID)
    assert "object-not-reidentifiable" in run("reidentify", str(tmp_path / "plain"), str(tmp_path / "none"))
    own = ["--key", str(tmp_path / "state" / "keys" / "reidentify.key")]
    run("reidentify", str(tmp_path / "out"), str(tmp_path / "again"), *own)
    told = list(audit.events(tmp_path / "state", "reidentify"))
    assert len(told) == 3, "also where the node's own key is named"
    assert {line["uid"] for line in told} == {os.getuid()}
