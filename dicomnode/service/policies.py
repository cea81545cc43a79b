"""Policies of de-identification as a site has them: the engine's own with the site's changes, and what to know of these."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from dicomnode.config import Config
from dicomnode.deidentification.policy import OPTION_NAMES, POLICIES, Faces, OnLeak, Option, Policy, SiteAction
from dicomnode.deidentification.reader import installed_reader
from dicomnode.deidentification.values import composed
from dicomnode.errors import ConfigError
from dicomnode.site_rules import PolicySection

_WORD: Final = re.compile(r"[^\W_]+")
#: Of HIPAA's Safe Harbor, 45 CFR 164.514(b)(2)(i)(C): ages above are one class.
_SAFE_AGE: Final = 89


def policy_of(tree: Config, name: str) -> Policy:
    """Policy of a name with the site's own changes.

    Raises
    ------
    ConfigError
        ``config-invalid`` when there is none of that name.
    """
    base = POLICIES.get(name)
    if base is None:
        raise ConfigError("config-invalid", policies=len(POLICIES))
    settings = tree.deidentification
    changes: PolicySection = getattr(settings, name)
    actions = ((SiteAction(action), getattr(changes, action)) for action in ("keep", "clean", "empty", "remove"))
    options = base.options if changes.options is None else frozenset(OPTION_NAMES[name] for name in changes.options)
    policy = replace(
        base,
        options=options,
        site={keyword: action for action, keywords in actions for keyword in keywords},
        words=frozenset(word for known in settings.known_words for word in _WORD.findall(composed(known).casefold())),
        blank_text=(changes.text_in_pixels or settings.text_in_pixels) == "blank",
        headers_alone=(changes.images_without_pixels or settings.images_without_pixels) == "pass",
        faces=base.faces if changes.faces is None else Faces(changes.faces),
        on_leak=base.on_leak if changes.on_leak is None else OnLeak(changes.on_leak),
        devices=tuple(rule for rule in settings.devices if name in rule.policies),
    )
    if changes.highest_age is not None:
        policy = replace(policy, highest_age=changes.highest_age or None)
    if changes.look_at_every_image is not None:
        closely = changes.look_at_every_image == "closely"
        policy = replace(policy, look_at_every_image=bool(changes.look_at_every_image), closely=closely)
    if changes.withhold_recognizable is not None:
        policy = replace(policy, withhold_recognizable=changes.withhold_recognizable)
    return policy


def notes_of_policies(tree: Config) -> Iterator[str]:
    """What to know of a site's changes: what identifies somebody leaves with exports, or a patient gets no result."""
    for name, notes in (("export", _of_exports), ("ai", _of_studies)):
        told: PolicySection = getattr(tree.deidentification, name)
        policy = policy_of(tree, name)
        for setting, note in notes(policy):
            if setting in told.model_fields_set:
                yield f"deidentification.{name}.{setting}: {note}"
    for rule in tree.deidentification.devices:
        where = f"deidentification.devices.{rule.name}"
        if rule.rest_is_clean and installed_reader() is None:
            yield f"{where}.rest_is_clean: nobody reads these images; what a search for letters misses passes at the site's word"
        if rule.withhold and "ai" in rule.policies:
            yield f"{where}.withhold: a study of such images gets no result (withheld-pixels)"


def _of_exports(policy: Policy) -> Iterator[tuple[str, str]]:
    if policy.faces is Faces.PASS:
        yield "faces", "heads, from which faces can be drawn, leave, and do not say so in (0028,0302)"
    if not policy.look_at_every_image:
        yield "look_at_every_image", "text that no flag announces leaves with its image"
    if policy.closely and installed_reader() is None:
        yield (
            "look_at_every_image",
            "nobody reads (extra ocr): lines of letters alone are looked for in every image, and held back",
        )
    if not policy.withhold_recognizable:
        yield "withhold_recognizable", "what says of itself that it shows a face leaves"
    if policy.highest_age is None or policy.highest_age > _SAFE_AGE:
        yield (
            "highest_age",
            f"ages above {_SAFE_AGE} leave, of which there are few persons (45 CFR 164.514(b)(2)(i)(C))",
        )
    if Option.FULL_DATES in policy.options:
        yield "options", "dates leave as they came (retain-full-dates)"
    if Option.UIDS in policy.options:
        yield "options", "UIDs leave as they came (retain-uids): whoever can search the archive knows whose they are"
    if kept := [keyword for keyword, action in policy.site.items() if action is SiteAction.KEEP]:
        yield "keep", f"{', '.join(kept)} leave as they came, and the leak check does not look for what they say"


def _of_studies(policy: Policy) -> Iterator[tuple[str, str]]:
    if policy.look_at_every_image and (installed_reader() is None or not policy.blank_text):
        yield "look_at_every_image", "a study whose images look written on gets no result (withheld-pixels)"
    elif policy.look_at_every_image:
        yield "look_at_every_image", "networks see images without what is written on them, markers of sides included"
    if policy.withhold_recognizable:
        yield "withhold_recognizable", "a study that says that it shows a face gets no result (withheld-pixels)"
    if policy.faces.lets_no_face_out:
        yield "faces", "a study of a head gets no result (withheld-face)"
    if policy.on_leak is OnLeak.WITHHOLD:
        yield "on_leak", "a study in which the leak check finds something gets no result (withheld-leak)"
