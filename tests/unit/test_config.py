from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from dicomnode import config
from dicomnode.config import Config, ConfigErrors, default_state_folder, load, parse
from dicomnode.network_sections import tls_of_moves

DESTINATION = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 104}


def problems(data: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(ConfigErrors) as caught:
        parse(data)
    assert caught.value.facts == {"errors": len(caught.value.problems)}
    return caught.value.problems


def test_the_embedded_defaults_are_valid_and_private() -> None:
    tree = parse({})
    assert tree == Config()
    assert tree.listen.host == "127.0.0.1"
    assert tree.listen.port == 11112
    assert tree.node.ae_title == "DICOMNODE"
    assert tree.destinations == ()


def test_every_error_is_told_at_once_each_with_its_place() -> None:
    found = problems(
        {
            "listen": {"port": 70000, "host": "pacs.example"},
            "node": {"ae_title": "x" * 17, "colour": "red"},
            "nothing": {},
            "destinations": [{**DESTINATION, "port": 0}],
        }
    )
    places = [problem.split(":")[0] for problem in found]
    assert sorted(places) == [
        "destinations.0.port",
        "listen.host",
        "listen.port",
        "node.ae_title",
        "node.colour",
        "nothing",
    ]
    assert "node.colour: no such setting" in found
    assert "node.ae_title: an AE title has 1 to 16 printable ASCII characters and no backslash" in found


@pytest.mark.parametrize("value", [16, 99, -1, 1.5, 10**30, "many", "8", "", True, [], {}])
def test_how_many_receivers_is_a_number_or_auto_and_said_in_one_line(value: object) -> None:
    assert problems({"intake": {"receivers": value}}) == ('intake.receivers: "auto", or a whole number from 0 to 15',)


@pytest.mark.parametrize("value", ["auto", 0, 15])
def test_receivers_of_either_kind_are_taken(value: object) -> None:
    assert parse({"intake": {"receivers": value}}).intake.receivers == value


def settings_of(kind: type[BaseModel], where: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, setting in kind.model_fields.items():
        yield (*where, name)
        inner = [setting.annotation, *get_args(setting.annotation)]
        for one in inner:
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield from settings_of(one, (*where, name))


JUNK = (
    5,
    -(10**30),
    1.5,
    math.nan,
    "\x00" * 5000,
    "",
    True,
    [],
    [5],
    [[]],
    {},
    {"a": 1},
    datetime(2026, 1, 2, tzinfo=UTC),
)
#: What pydantic would say, and nobody who writes TOML knows.
FOREIGN = re.compile(
    r"Input should|instance of|<class|literal|constrained|union|[Tt]uple|dictionary|parse|function-|Field "
)


@pytest.mark.parametrize("where", list(settings_of(Config)), ids=".".join)
def test_whatever_a_setting_is_what_is_wrong_is_said_in_one_line_of_ours(where: tuple[str, ...]) -> None:
    found = [told for told in (problems_with(where, junk) for junk in JUNK) if told]
    assert found
    for told in found:
        places = [problem.split(": ")[0] for problem in told]
        assert len(set(places)) == len(places), told
        assert [one for one in told if FOREIGN.search(one)] == []


def problems_with(where: tuple[str, ...], value: object) -> tuple[str, ...]:
    """Of a configuration that holds nothing but one value; none where it may be."""
    data: Any = value
    for name in reversed(where[1:]):
        data = {name: data}
    try:
        parse({where[0]: [data] if where[0] in {"peers", "destinations"} and where[1:] else data})
    except ConfigErrors as error:
        return error.problems
    return ()


def test_a_listening_address_is_no_host_name() -> None:
    assert problems({"listen": {"host": "pacs.example"}}) == (
        "listen.host: an IP address of this machine, such as 127.0.0.1, 0.0.0.0 or ::1",
    )


def test_an_address_of_either_family_is_listened_on() -> None:
    for host in ("0.0.0.0", "::1"):
        assert parse({"listen": {"host": host}}).listen.host == host


def test_two_destinations_of_one_name_are_refused() -> None:
    assert problems({"destinations": [DESTINATION, DESTINATION]}) == (
        "configuration: two destinations have the same name",
    )
    assert len(parse({"destinations": [DESTINATION, {**DESTINATION, "name": "archive"}]}).destinations) == 2


def test_a_destination_is_asked_about_by_a_source_that_there_is() -> None:
    asked = {**DESTINATION, "identity_source": "vna"}
    assert problems({"destinations": [asked]}) == (
        "configuration: destinations.pacs: identity_source names none of sources",
    )
    assert parse({"destinations": [asked], "sources": [{**DESTINATION, "name": "vna"}]}).sources[0].name == "vna"


@pytest.mark.parametrize("name", ["", "PACS", "1st", "a_b", "a" * 33])
def test_no_name_of_a_destination(name: str) -> None:
    assert problems({"destinations": [{**DESTINATION, "name": name}]}) == (
        "destinations.0.name: a name has 1 to 32 lower-case letters, digits and hyphens, a letter first",
    )


@pytest.mark.parametrize("title", ["", "    ", "x" * 17, "a\\b", "tab\t", "ä"])
def test_no_ae_title(title: str) -> None:
    assert problems({"node": {"ae_title": title}})


def test_spaces_around_an_ae_title_do_not_count() -> None:
    assert parse({"node": {"ae_title": " CT 1 "}}).node.ae_title == "CT 1"


def sections(model: type[BaseModel]) -> list[type[BaseModel]]:
    return [
        value
        for value in vars(config).values()
        if isinstance(value, type) and issubclass(value, BaseModel) and value.__module__ == config.__name__
    ]


@pytest.mark.parametrize("section", sections(Config), ids=lambda section: section.__name__)
def test_every_setting_says_what_it_is(section: type[BaseModel]) -> None:
    assert section.model_config["frozen"]
    assert section.model_config["extra"] == "forbid"
    if section is not Config:
        for name, field in section.model_fields.items():
            assert field.description, name


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text('[node]\nae_title = "CT"\n', "utf-8")
    assert load(path).node.ae_title == "CT"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"[node\n", "node.toml: "),
        (b"\xff", "byte 0 is not UTF-8"),
        (b"[node]\nx = 1\n", "node.x: no such setting"),
    ],
)
def test_a_file_that_is_none_says_why(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "node.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigErrors) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert message in problem


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "HOME": "/h"}, "/var/lib/a"),
        ({"XDG_DATA_HOME": "/x", "HOME": "/h"}, "/x/dicomnode"),
        ({"HOME": "/h"}, "/h/.local/share/dicomnode"),
        ({}, "/.local/share/dicomnode"),
    ],
)
def test_where_the_state_is_kept_by_default(environment: dict[str, str], folder: str) -> None:
    assert default_state_folder(environment) == Path(folder)


def test_two_destinations_of_one_name_are_told_beside_other_errors() -> None:
    block = {"name": "pacs", "ae_title": "PACS", "host": "pacs", "port": 104}
    with pytest.raises(ConfigErrors) as caught:
        parse({"destinations": [block, block], "listen": {"port": -1}})
    assert [problem.partition(":")[0] for problem in caught.value.problems] == ["listen.port", "destinations"]


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("node", "institution_name", "St. Mary\\Radiology"),
        ("node", "institution_name", "St. Mary\nRadiology"),
        ("node", "institution_name", "x" * 65),
        ("node", "station_name", "A\\B"),
        ("node", "station_name", "A\tB"),
        ("node", "station_name", "A\u2028B"),
        ("node", "station_name", "x" * 17),
        ("deidentification", "project", "x\0y"),
        ("deidentification", "project", "x\\y"),
        ("deidentification", "default_issuer", "a\x7f"),
        ("node", "state", ""),
        ("node", "state", "  "),
        ("node", "state", "a\0b"),
        ("node", "state", "/a/" + "ä" * 128),
        ("node", "state", "/a" * 2500),
        ("keys", "folder", ""),
        ("models", "folder", ""),
    ],
)
def test_text_that_dicom_or_the_disk_cannot_hold_is_refused(section: str, name: str, value: str) -> None:
    (problem,) = problems({section: {name: value}})
    assert problem.startswith(f"{section}.{name}: ")


def test_a_number_is_no_path() -> None:
    assert problems({"node": {"state": 5}}) == ("node.state: a path, in quotes",)


@pytest.mark.parametrize("name", ["Universitätsklinikum Köln", "St. Mary's = 2^2", "東京病院", ""])
def test_an_institution_is_named_in_any_script(name: str) -> None:
    assert parse({"node": {"institution_name": name}}).node.institution_name == name


@pytest.mark.parametrize("host", ["", "a b", "a\0b", "a\nb", "a..b", "x" * 64 + ".org", "x." * 127])
def test_no_host_of_a_destination(host: str) -> None:
    (problem,) = problems({"destinations": [{**DESTINATION, "host": host}]})
    assert problem.startswith("destinations.0.host: ")


@pytest.mark.parametrize("host", ["pacs", "pacs.example.org", "10.0.0.1", "::1", "fe80::1%eth0", "bücher.example"])
def test_a_host_of_a_destination(host: str) -> None:
    assert parse({"destinations": [{**DESTINATION, "host": host}]}).destinations[0].host == host


@pytest.mark.parametrize(
    ("section", "values", "problem"),
    [
        ("intake", {"segment_bytes": 1 << 20}, "intake: extent_bytes is larger than segment_bytes"),
        (
            "intake",
            {"segment_bytes": 1 << 20, "extent_bytes": 4096, "chunk_bytes": 1 << 21},
            "intake: chunk_bytes is larger than segment_bytes",
        ),
        (
            "delivery",
            {"first_retry_seconds": 601},
            "delivery: first_retry_seconds is longer than longest_retry_seconds",
        ),
        ("models", {"gpu": "0,0"}, "models: gpu names each device once, or all alone"),
        ("models", {"gpu": "all,0"}, "models: gpu names each device once, or all alone"),
    ],
)
def test_settings_that_contradict_each_other_are_told(section: str, values: dict[str, object], problem: str) -> None:
    assert problems({section: values}) == (problem,)


@pytest.mark.parametrize(
    ("peer", "place"),
    [
        ({"addresses": ["10.0.0.1/8"]}, "peers.0.addresses.0"),
        ({"addresses": ["pacs"]}, "peers.0.addresses.0"),
        ({"certificate_sha256": ["abc"]}, "peers.0.certificate_sha256.0"),
        ({"certificate_subject": "no name"}, "peers.0.certificate_subject"),
        ({"sop_classes": ["1.02"]}, "peers.0.sop_classes.0"),
        ({"sop_classes": ["CT"]}, "peers.0.sop_classes.0"),
        ({"priority": "urgent"}, "peers.0.priority"),
    ],
)
def test_no_rule_of_a_peer(peer: dict[str, Any], place: str) -> None:
    (problem,) = problems({"peers": [{"name": "ct1", **peer}]})
    assert problem.startswith(f"{place}: ")


def test_fingerprints_and_names_are_brought_into_one_form() -> None:
    peer = {"name": "a", "certificate_sha256": ["AB:" * 31 + "CD"], "certificate_subject": "CN=ct1, O=Hospital"}
    (rule,) = parse({"peers": [peer]}).peers
    assert rule.certificate_sha256 == ("ab" * 31 + "cd",)
    assert rule.certificate_subject == "CN=ct1,O=Hospital"


def test_two_peers_of_one_name_are_refused() -> None:
    assert problems({"peers": [{"name": "a"}, {"name": "a"}]}) == ("configuration: two peers have the same name",)


def test_a_node_listens_somewhere_and_nowhere_twice() -> None:
    tls = {"certificate": "/c", "private_key": "/k", "trusted_certificates": "/t"}
    assert problems({"listen": {"plain": "off"}})[0].startswith("listen: plain is off")
    same = {"tls": tls, "plain": "on", "port": 104, "tls_port": 104}
    assert problems({"listen": same})[0] == "listen: port and tls_port are the same"
    assert not parse({"listen": {"tls": tls}}).listen.listens_plain
    assert parse({"listen": {"tls": tls, "plain": "on"}}).listen.listens_plain


def test_watched_folders_do_not_lie_within_each_other() -> None:
    with pytest.raises(ConfigErrors) as caught:
        parse({"folders": [{"name": "a", "path": "/srv/in"}, {"name": "b", "path": "/srv/in/b"}]})
    assert "folders.b: it and a lie within each other" in caught.value.problems[0]
    assert len(parse({"folders": [{"name": "a", "path": "/srv/in"}, {"name": "b", "path": "/srv/inb"}]}).folders) == 2


def test_stow_is_closed_by_default_and_never_in_the_clear_on_a_network() -> None:
    assert parse({}).stow.enabled is False
    for host in ("127.0.0.1", "127.8.0.1", "::1"):
        assert parse({"stow": {"enabled": True, "host": host}}).stow.tls is None
    for host in ("0.0.0.0", "::", "10.1.2.3"):
        (problem,) = problems({"stow": {"host": host}})
        assert problem.startswith("stow: host is not of this machine alone, and tls is not set")
    tls = {"certificate": "/c", "private_key": "/k"}
    assert parse({"stow": {"host": "0.0.0.0", "tls": tls}}).stow.tls is not None


@pytest.mark.parametrize("path", ["dicom-web", "/a/", "/a//b", "/a b", "/..", "/a/./b", "/ä", "/" + "a" * 200])
def test_a_path_of_stow_that_is_none(path: str) -> None:
    (problem,) = problems({"stow": {"path": path}})
    assert problem.startswith("stow.path: ")


def test_a_peer_with_a_token_is_of_stow_alone_and_has_a_name_for_rules() -> None:
    token = {"token_sha256": ["AB" * 32]}
    certificate = {"certificate_subject": "CN=a"}
    peers = [{"name": "plain"}, {"name": "b-gateway", **token}, {"name": "c", "ae_title": "GW", **token, **certificate}]
    plain, named, titled, certified = parse({"peers": [*peers, {"name": "d", **certificate}]}).peers
    assert [one.by_dimse for one in (plain, named, titled, certified)] == [True, False, False, True]
    assert [one.by_web for one in (plain, named, titled, certified)] == [False, True, True, True]
    assert (named.web_title, titled.web_title) == ("B-GATEWAY", "GW")
    assert named.token_sha256 == ("ab" * 32,)
    (problem,) = problems({"peers": [{"name": "a", "token_sha256": ["a-token-in-the-clear"]}]})
    assert problem.startswith("peers.0.token_sha256.0: ")
    assert "a-token-in-the-clear" not in problem


@pytest.mark.parametrize(
    ("peers", "listen", "named"),
    [
        (
            [
                {"name": "research-gateway-one", "token_sha256": ["ab" * 32]},
                {"name": "research-gateway-two", "token_sha256": ["cd" * 32]},
            ],
            {},
            ["research-gateway-one", "research-gateway-two"],
        ),
        ([{"name": "ct", "ae_title": "X"}, {"name": "x", "token_sha256": ["ab" * 32]}], {}, ["x"]),
        ([{"name": "x", "token_sha256": ["ab" * 32]}], {"calling_ae_titles": ["CT", "X"]}, ["x"]),
        ([{"name": "x", "certificate_sha256": ["ab" * 32]}, {"name": "y", "ae_title": "X"}], {}, ["x"]),
    ],
)
def test_callers_by_the_web_have_names_of_their_own(
    peers: list[dict[str, Any]], listen: dict[str, Any], named: list[str]
) -> None:
    tree: dict[str, Any] = {"stow": {"enabled": True}, "peers": peers, "listen": listen}
    (problem,) = problems(tree)
    assert problem.count("by STOW-RS") == len(named)
    for name in named:
        assert f"peers.{name}: rules of routing call it {name.upper()[:16]} by STOW-RS" in problem
    assert parse({**tree, "stow": {}}).peers[0].name == peers[0]["name"]  # where nobody comes so, nobody is mistaken
    own = [{"ae_title": f"OWN{number}", **one} for number, one in enumerate(peers)]
    assert len(parse({**tree, "peers": own}).peers) == len(peers)


def test_an_ae_title_that_two_callers_are_given_is_meant() -> None:
    gateway = {"ae_title": "GW", "token_sha256": ["ab" * 32]}
    peers = [{"name": "a", **gateway}, {"name": "b", **gateway}, {"name": "c", "ae_title": "GW"}]
    assert [one.web_title for one in parse({"stow": {"enabled": True}, "peers": peers}).peers[:2]] == ["GW", "GW"]


def test_sources_that_move_need_a_door() -> None:
    place = {"name": "pacs", "ae_title": "PACS", "host": "h", "port": 104, "retrieve": "move"}
    with pytest.raises(ConfigErrors) as caught:
        parse({"sources": [place]})
    assert "sources.pacs: C-MOVE needs retrieval.port" in caught.value.problems[0]
    assert parse({"sources": [place], "retrieval": {"port": 11113}}).sources[0].way == "C-MOVE"
    web = parse({"sources": [{"name": "web", "url": "http://h/dicom-web", "retrieve": "move"}]}).sources[0]
    assert web.way == "WADO-RS"


def test_the_port_of_moves_is_with_tls_where_the_sources_or_the_node_are() -> None:
    place = {"ae_title": "PACS", "host": "h", "port": 104, "retrieve": "move"}
    files = [dict.fromkeys(("certificate", "private_key", "trusted_certificates"), f"/etc/{name}") for name in "xyz"]
    plain, first, second = (
        {**place, "name": name, **tls} for name, tls in (("a", {}), ("b", {"tls": files[0]}), ("c", {"tls": files[1]}))
    )

    def tls(*sources: dict[str, Any], **listen: Any) -> Path | None:
        tree = parse({"sources": sources, "listen": listen, "retrieval": {"port": 11113}})
        found = tls_of_moves(tree.listen, tree.sources)
        return found.certificate if found is not None else None

    own = {"tls": files[2]}
    assert tls(plain) is None
    assert tls(first) == Path("/etc/x")
    assert tls(plain, **own) == Path("/etc/z")  # the node listens with TLS alone
    assert tls(plain, plain="on", **own) is None
    assert tls(first, plain="on", **own) == Path("/etc/z")
    assert tls(first, second, **own) == Path("/etc/z")
    getting = {**plain, "retrieve": "get"}
    assert tls(getting, first) == Path("/etc/x")
    for sources, named in (((plain, first), "sources.a: no tls"), ((first, second), "sources.c: tls is not that of b")):
        (problem,) = problems({"sources": sources, "retrieval": {"port": 11113}})
        assert named in problem


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"stow": {"enabled": True, "port": 11112}}, "stow.port: 11112 is listen.port, too"),
        ({"retrieval": {"port": 11112}}, "retrieval.port: 11112 is listen.port, too"),
        ({"stow": {"enabled": True}, "retrieval": {"port": 8042}}, "retrieval.port: 8042 is stow.port, too"),
    ],
)
def test_each_door_has_a_port_of_its_own(data: dict[str, Any], named: str) -> None:
    (problem,) = problems(data)
    assert named in problem
    free = {"listen": {"port": 0}, "stow": {"enabled": True, "port": 0}, "retrieval": {"port": 0}}
    assert parse(free).stow.enabled
    assert parse({"stow": {"port": 11112}}).stow.port == 11112, "closed"


@pytest.mark.parametrize("also", [{"url": "https://h/dicom-web"}, {"s3": {"bucket": "trial"}}])
def test_an_export_goes_to_one_place(also: dict[str, Any]) -> None:
    export = {"name": "a", "project": "p", "into": "/srv/a"}
    assert parse({"exports": [export]}).exports[0].into == Path("/srv/a")
    (problem,) = problems({"exports": [{**export, **also}]})
    assert "it goes to one place" in problem


def test_exports_of_two_projects_have_a_folder_each() -> None:
    def both(one: str, other: str) -> dict[str, Any]:
        return {"exports": [{"name": "a", "project": "p", "into": one}, {"name": "b", "project": "q", "into": other}]}

    for other in ("/srv/a", "/srv/a/b"):
        (problem,) = problems(both("/srv/a", other))
        assert "exports.b: its folder and that of a lie within each other" in problem
    assert len(parse(both("/srv/a", "/srv/ab")).exports) == 2
