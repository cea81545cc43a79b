"""Serial numbers of devices: all of them stay where the identity of devices is retained, and none elsewhere, wherever it stands."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from dicomnode.deidentification.apply import Deidentifier
from dicomnode.deidentification.policy import AI, EXPORT, Option, Policy
from dicomnode.deidentification.pseudonyms import Pseudonyms
from tests.unit.deidentification import planted

PSEUDONYMS = Pseudonyms(bytes(range(32)), "project")
OFF = replace(AI, options=AI.options - {Option.DEVICE})
SERIALS = ("000000035402", "35402", "1234567", "SN-0012345678", "AN35402X", "000000312345CT01")
TEXTS = ("SeriesDescription", "ProtocolName", "SoftwareVersions", "ReceiveCoilName", "DerivationDescription")

pytestmark = pytest.mark.filterwarnings("ignore")


def with_serial(serial: str) -> Dataset:
    ds, item = planted.slice_of_ct(), Dataset()
    ds.DeviceSerialNumber = ds.DetectorID = item.DeviceSerialNumber = serial
    item.Manufacturer = "SIEMENS"
    ds.ContributingEquipmentSequence = Sequence([item])
    ds.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    ds.add_new(0x00291008, "CS", serial[:16])
    ds.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    ds.add_new(0x00191008, "LO", serial)
    ds.add_new(0x00191020, "UN", serial.encode())
    return ds


@pytest.mark.parametrize("serial", SERIALS)
def test_they_stay_where_devices_do(serial: str) -> None:
    output = Deidentifier(AI, PSEUDONYMS).deidentify(with_serial(serial)).dataset
    assert (output.DeviceSerialNumber, output.DetectorID) == (serial, serial)
    assert output.ContributingEquipmentSequence[0].DeviceSerialNumber == serial


@pytest.mark.parametrize("policy", [EXPORT, OFF], ids=["export", "off"])
@pytest.mark.parametrize("syntax", [planted.EXPLICIT, planted.IMPLICIT])
@pytest.mark.parametrize("serial", SERIALS)
def test_they_go_where_devices_do_not_stay(serial: str, syntax: str, policy: Policy) -> None:
    ds = with_serial(serial)
    for keyword in TEXTS:
        setattr(ds, keyword, f"CT {serial}")
    output = Deidentifier(policy, PSEUDONYMS).deidentify(ds).dataset
    assert serial.encode() not in planted.encoded(output, syntax)


@pytest.mark.parametrize(
    "serial", ["778812", "0000778812", "19510203", "6175550134", "Jane 35402", "Meyer 1234567", "10.0.0.12"]
)
def test_what_is_somebody_s_is_no_serial_number(serial: str) -> None:
    ds = with_serial(serial)
    ds.PatientTelephoneNumbers = "617 555 0134"
    output = Deidentifier(AI, PSEUDONYMS).deidentify(ds).dataset
    assert serial.encode() not in planted.encoded(output)
    assert str(output.DeviceSerialNumber).startswith("ID")
