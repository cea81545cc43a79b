"""The identity of a source series: what the vault keeps, and what a result must carry again.

Floor 1. De-identification fills it, storage seals it, results restore from it; it is never logged and has no repr.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

#: Attributes of the patient, the study and the request that every result has as its source has them, or there is no
#: result (PS3.3 C.7.1.1 Patient, C.7.2.1 General Study, C.7.2.2 Patient Study; Request Attributes of C.7.3.1).
REQUIRED_KEYWORDS: Final = (
    "SpecificCharacterSet",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "ReferringPhysicianName",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence",
    "RequestAttributesSequence",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "TimezoneOffsetFromUTC",
)
#: What else these modules, and those of a clinical trial (C.7.1.3, C.7.2.3), say of a patient and a study: all objects of a
#: study are to say the same. One of these that cannot be written as the source has it is left out of the results.
FURTHER_KEYWORDS: Final = (
    "ReferringPhysicianIdentificationSequence",
    "ConsultingPhysicianName",
    "ConsultingPhysicianIdentificationSequence",
    "PhysiciansOfRecord",
    "PhysiciansOfRecordIdentificationSequence",
    "NameOfPhysiciansReadingStudy",
    "PhysiciansReadingStudyIdentificationSequence",
    "RequestingServiceCodeSequence",
    "ReasonForPerformedProcedureCodeSequence",
    "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence",
    "PatientBirthDateInAlternativeCalendar",
    "PatientDeathDateInAlternativeCalendar",
    "PatientAlternativeCalendar",
    "SourcePatientGroupIdentificationSequence",
    "GroupOfPatientsIdentificationSequence",
    "QualityControlSubject",
    "OtherPatientIDs",
    "OtherPatientNames",
    "PatientSizeCodeSequence",
    "PatientBodyMassIndex",
    "MeasuredAPDimension",
    "MeasuredLateralDimension",
    "MedicalAlerts",
    "Allergies",
    "EthnicGroup",
    "Occupation",
    "SmokingStatus",
    "AdditionalPatientHistory",
    "PregnancyStatus",
    "LastMenstrualDate",
    "PatientState",
    "PatientComments",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "PatientSexNeutered",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "StrainDescription",
    "StrainNomenclature",
    "StrainCodeSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "ReasonForVisit",
    "ReasonForVisitCodeSequence",
    "ServiceEpisodeID",
    "ServiceEpisodeDescription",
    "IssuerOfServiceEpisodeIDSequence",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "IssuerOfClinicalTrialProtocolID",
    "OtherClinicalTrialProtocolIDsSequence",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "IssuerOfClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "IssuerOfClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "IssuerOfClinicalTrialSubjectReadingID",
    "ClinicalTrialProtocolEthicsCommitteeName",
    "ClinicalTrialProtocolEthicsCommitteeApprovalNumber",
    "ClinicalTrialTimePointID",
    "IssuerOfClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
    "LongitudinalTemporalOffsetFromEvent",
    "LongitudinalTemporalEventType",
    "ConsentForClinicalTrialUseSequence",
)
IDENTITY_KEYWORDS: Final = (*REQUIRED_KEYWORDS, *FURTHER_KEYWORDS)


#: PS3.5 9.1: components are numbers, and none but 0 itself begins with 0.
_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


def is_valid_uid(uid: str) -> bool:
    """Whether a UID is one by PS3.5 9.1; a source's that is not stays what it is, in results too."""
    return len(uid) <= 64 and _UID.fullmatch(uid) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceIdentity:
    """Identity of one source series.

    Attributes
    ----------
    attributes
        The attributes of `IDENTITY_KEYWORDS` that the source has, as a Data Set in the DICOM JSON Model (PS3.18 F).
    uids
        Pseudonymous UID → original UID, for every UID that was replaced in the series.
    """

    attributes: dict[str, Any] = field(repr=False)
    uids: dict[str, str] = field(repr=False)

    @property
    def invalid_uids(self) -> int:
        """How many UIDs of the source break PS3.5 9.1."""
        return sum(not is_valid_uid(uid) for uid in self.uids.values())

    def to_json(self) -> dict[str, Any]:
        """Plain types, for the vault."""
        return {"attributes": self.attributes, "uids": self.uids}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> SourceIdentity:
        """Inverse of `to_json`."""
        return cls(attributes=dict(data["attributes"]), uids=dict(data["uids"]))
