"""Codes of what other systems are asked for beside objects, of what they may say and send of a study, and of works that wait or are given up.

Floor 0, below `errors`, whose table they are part of: code to its text and its advice.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

SOURCE_REASONS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "peer-limit": (
            "more studies or requests of a peer come at a time than its rule under [[peers]] allows",
            "raise maximum_open_studies or maximum_associations if that is legitimate",
        ),
        "study-limit": (
            "a peer sends more of one study than its rule under [[peers]] allows",
            "raise maximum_study_instances or maximum_study_bytes if that is legitimate, and have it sent again",
        ),
        "source-none": ("no source is configured that may be asked for this", "name the PACS under [[sources]]"),
        "source-down": (
            "the source failed again and again and is left alone for now",
            "the log tells why; it is asked by itself whether it is back",
        ),
        "source-closed": (
            "the source may not be asked now: its hours, or what it may be asked for in a minute",
            "nothing, or change hours, objects_per_minute or bytes_per_second of the source",
        ),
        "commitment-unreported": (
            "a destination did not report storage commitment; C-FIND shows that it has the results",
            "see why it does not report, or set storage_commitment = false there",
        ),
        "commitment-unproven": (
            "a destination took the results, and can be asked for storage commitment neither way",
            "look for them there; if it knows no commitment, set storage_commitment = false there",
        ),
        "worklist-entry-wrong": (
            "the modality broke a step of the study off since the wrong worklist entry was selected: another patient's",
            "look whose images they are; `dicomnode release` lets the results go, `dicomnode cancel` ends them",
        ),
        "study-endless": (
            "more of a study came for longer than completion.arrival_seconds; it was worked on as it was",
            "see who sends it without end; what comes after that is worked on, too",
        ),
        "result-late": (
            "the results came too late to be of use",
            "`dicomnode release` delivers them; else they are given up when retention.days are over",
        ),
        "restarted-too-often": ("the node ended ten times while this work ran", "see the log; dicomnode reprocess"),
        "held-too-long": (
            "results waited for evidence, or for somebody to release them, until their time was over",
            "`dicomnode retry` sets them out again, for a day; what is held once more is for `dicomnode release`",
        ),
        "queue-late": (
            "studies have been waiting for their turn for longer than intake.maximum_queue_seconds",
            "see what the node works on; new associations are taken again by themselves, and senders try again",
        ),
        "instances-rejected": (
            "images that the work was made of were rejected by a rejection note",
            "see the note's author; corrected images are worked on when they come",
        ),
        "results-retracted": (
            "somebody found the results wrong by dicomnode retract",
            "destinations that take rejection notes got one; dicomnode reprocess makes new results",
        ),
        "patient-changed": (
            "the destination shows the study under another patient or accession number than its images came with",
            "have the PACS send the corrected images again, or let the results go as they are by dicomnode release",
        ),
        "study-gone": (
            "the destination, which had the study, does not show it any more",
            "see why it was deleted there; dicomnode release delivers all the same, dicomnode cancel ends it",
        ),
        "query-failed": ("the system that was asked whose study it is failed to look", "see its log"),
        "identity-unasked": (
            "the destination cannot be asked whose study it is, or nobody can read whose results these are",
            'see the log; dicomnode release delivers, and identity_check = "auto" delivers without an answer',
        ),
        "priors-none": (
            "the source shows no earlier study of the patient that the model could use",
            "nothing: the work went on without",
        ),
        "retrieval-refused": (
            "the source refuses to send what it shows",
            "0xA801: it does not know retrieval.ae_title as a C-MOVE destination; else see its log",
        ),
        "retrieval-incomplete": ("the source did not send all that it was asked for", "see its log"),
        "retrieval-strange": (
            "the source sent objects that it was not asked for",
            "ask its vendor; they were not taken",
        ),
        "retrieval-other-patient": (
            "the source shows or sends objects of another patient as this one's",
            "ask its vendor, and look for a merged patient; they were not taken",
        ),
        "retrieval-too-large": (
            "the source sends more than retrieval.maximum_objects or retrieval.maximum_bytes",
            "raise the limits if so much is meant",
        ),
    }
)
