"""People who do not exist, and how their names, numbers, dates and addresses are written into texts.

Nothing of the engine is used here. What it is known not to find (decision 13, "Not found still") is not among the spellings.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Final

FAMILIES: Final = (
    "Okonkwo", "Hrdlicka", "Villanueva", "Thorvaldsen", "Müller-Brandt", "Szczepanski", "O'Sullivan", "Van der Heijden", "Ferreira", "Karlsson",
    "Papadakis", "Abernathy", "Dubois", "Moretti", "Nguyen", "Lindqvist", "Haddad", "Björnsson", "Kowalczyk", "Eze", "Fitzgerald", "Grünwald",
    "Iyer", "Jankowski", "Quispe", "Rautio", "Sørensen", "Tremblay", "Uzun", "Weatherby", "Yilmaz", "Zografos", "Castañeda", "Li", "King", "Stone",
)  # fmt: skip
GIVENS: Final = (
    "Adaeze", "Bronislav", "Consuelo", "Dagfinn", "Elif", "Fiadh", "Gonzalo", "Hildegard", "Ingeborg", "Joaquin", "Katarzyna", "Leocadia", "Mehmet",
    "Noor", "Oluwaseun", "Philippa", "Quentin", "Ramiro", "Siobhan", "Tuulikki", "Ursula", "Vasiliki", "Wenceslas", "Ximena", "Yannick", "Zuzanna",
    "Jane", "John", "Maria", "José", "Zoë", "Na",
)  # fmt: skip
STREETS: Final = ("Hollerallee", "Quincy Street", "Rue Vaugirard", "Kauppakatu", "Via Tiburtina", "Marszalkowska")
CITIES: Final = ("Wolverhampton", "Kuopio", "Bydgoszcz", "Perpignan", "Kassel", "Albuquerque")
#: Character set → people, as PatientName says them.
OTHERS: Final = (
    (["", "ISO 2022 IR 87"], ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Kobayashi^Hanako=小林^花子=こばやし^はなこ")),
    (["ISO 2022 IR 13", "ISO 2022 IR 87"], ("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "ｺﾊﾞﾔｼ^ﾊﾅｺ=小林^花子=こばやし^はなこ")),
    (["", "ISO 2022 IR 149"], ("Hong^Gildong=洪^吉洞=홍길^길동", "Namgung^Minsu=南宮^民秀=남궁^민수")),
    (["", "ISO 2022 IR 58"], ("Zhang^XiaoDong=张^小东=", "Ouyang^Jianguo=欧阳^建国=")),
    ("GB18030", ("Wang^XiaoDong=王^小东=", "Sima^Xiangru=司马^相如=")),
    ("ISO_IR 192", ("Ковалевская^Софья", "Hüseyinoğlu^Şükran", "Đặng^Thị Hồng", "Кобзар^Святослав")),
    ("ISO_IR 144", ("Люкceмбypг^Роза", "Воскресенский^Аркадий")),
    ("ISO_IR 126", ("Διονυσιος^Αλεξης", "Παπαδοπουλου^Ελενη")),
    ("ISO_IR 127", ("قباني^لنزار", "الخوارزمي^مصطفى")),
    ("ISO_IR 138", ("שרון^דבורה", "אברמוביץ^יהודית")),
    ("ISO_IR 101", ("Wałęsa^Łukasz", "Dvořáčková^Růžena")),
    ("ISO_IR 166", ("นามสกุล^ชื่อ", "ศรีสวัสดิ์^สมชาย")),
    ("ISO_IR 100", ("Äneas^Rüdiger", "Peñalver^Íñigo")),
)  # fmt: skip
_LEET: Final = str.maketrans("aeio", "4310")
_MONTHS: Final = ("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober", "November", "Dezember")  # fmt: skip
_SHORTEST_NAME: Final = 4  # letters of an alphabet; of others two


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """One way to write something of somebody.

    Attributes
    ----------
    what, how
        What of them, and in which spelling.
    text
        As it is written.
    needles
        What of it must not come out.
    """

    what: str
    how: str
    text: str
    needles: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody's identity."""

    name: str
    patient_id: str
    other_id: str
    accession: str
    study_id: str
    birth: date
    studied: date
    street: str
    number: int
    postcode: str
    city: str
    phone: str
    referrer: str
    operator: str
    institution: str
    uids: tuple[str, ...]

    @classmethod
    def of(cls, random: Random, name: str = "") -> Person:
        """Somebody; of a name, or of one from the lists."""
        made = f"{random.choice(FAMILIES)}^{random.choice(GIVENS)}^{random.choice(GIVENS)}^{random.choice(('', 'Prof.'))}^{random.choice(('', 'Jr.'))}"
        return cls(
            name=name or made.rstrip("^"),
            patient_id=_code(random),
            other_id=_code(random),
            accession=_code(random),
            study_id=_code(random),
            birth=date(1935, 1, 1) + timedelta(days=random.randrange(25_000)),
            studied=date(2012, 1, 1) + timedelta(days=random.randrange(4_500)),
            street=random.choice(STREETS),
            number=random.randint(2, 98),
            postcode=str(random.randint(10_000, 99_999)),
            city=random.choice(CITIES),
            phone=f"+49 30 {random.randint(1000, 9999)} {random.randint(100, 999)}",
            referrer=f"{random.choice(FAMILIES[:31])}^{random.choice(GIVENS[:25])}",
            operator=f"{random.choice(FAMILIES[:31])}^{random.choice(GIVENS[:25])}",
            institution=f"{random.choice(CITIES)} {random.choice(('Infirmary', 'Klinikum', 'Hospital'))}",
            uids=tuple(
                f"1.2.752.{random.randint(10_000, 99_999)}.{random.randint(10**8, 10**9)}.{n}" for n in range(4)
            ),
        )

    def spellings(self, random: Random) -> Iterator[Spelling]:
        """Everything of this person in every spelling."""
        yield from self._names(random)
        for what, code in (
            ("patient id", self.patient_id),
            ("other id", self.other_id),
            ("accession number", self.accession),
            ("study id", self.study_id),
        ):
            for how, text in _codes(code):
                yield Spelling(
                    what=what, how=how, text=text, needles=_needles(text, code if how != "turned round" else text)
                )
        for what, day in (("birth date", self.birth), ("study date", self.studied)):
            for how, text in _days(day):
                yield Spelling(what=what, how=how, text=text, needles=(text,))
        for uid in self.uids:
            for how, text in (
                ("plain", uid),
                ("behind a word", f"uid {uid}"),
                ("with a branch", f"{uid}.1"),
                ("in a path", f"/pacs/{uid}/1"),
            ):
                yield Spelling(what="UID", how=how, text=text, needles=(uid,))
        street = self.street.split()[-1]
        yield Spelling(what="address", how="plain", text=f"{self.street} {self.number}", needles=(street,))
        yield Spelling(what="address", how="number first", text=f"{self.number}, {self.street}", needles=(street,))
        yield Spelling(
            what="address", how="city", text=f"{self.postcode} {self.city}", needles=(self.postcode, self.city)
        )
        yield Spelling(what="address", how="city alone", text=self.city, needles=(self.city,))
        for how, text in (
            ("plain", self.phone),
            ("local", self.phone.replace("+49 ", "0")),
            ("figures", self.phone.replace("+", "").replace(" ", "")),
        ):
            yield Spelling(what="telephone", how=how, text=text, needles=(text, self.phone[7:]))
        yield Spelling(what="institution", how="plain", text=self.institution, needles=(self.institution.split()[0],))

    def _names(self, random: Random) -> Iterator[Spelling]:
        for what, name in (
            ("patient's name", self.name),
            ("referrer's name", self.referrer),
            ("operator's name", self.operator),
        ):
            for group in name.split("="):
                parts = [part for part in group.split("^")[:3] if part]
                if len(parts) > 1:
                    for how, text in _written(parts[0], parts[1], random):
                        hidden = how in ("base64", "hexadecimal", "escaped")
                        yield Spelling(
                            what=what,
                            how=how,
                            text=text,
                            needles=(text,) if hidden else _needles(text, *parts[: 2 if parts[1] in text else 1]),
                        )
                    for place, part in zip(("family", "given", "middle"), parts, strict=False):
                        if len(part) >= _shortest(part):
                            yield Spelling(
                                what=what, how=f"{place} name alone", text=part, needles=_needles(part, part)
                            )


def squashed(text: str) -> str:
    """Letters and figures alone, without case."""
    return "".join(filter(str.isalnum, text.casefold()))


def plain(text: str) -> str:
    """Without marks on letters."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))


def _shortest(text: str) -> int:
    return _SHORTEST_NAME if text < "\u3000" else 2


def _needles(text: str, *parts: str) -> tuple[str, ...]:
    """The whole of a text, and of its parts what is long enough to be nobody else's."""
    return tuple(dict.fromkeys(one for one in (text, *parts) if one is text or len(squashed(one)) >= _shortest(one)))


def _code(random: Random) -> str:
    """A number as registries give them: seven figures and more."""
    figures = str(random.randint(2 * 10**6, 10**10))
    forms = (
        figures,
        f"A{figures}",
        f"MRN-{figures}",
        f"{figures[:3]}-{figures[3:]}",
        f"H000{figures}",
        f"PAT_{figures}",
        f"{figures}/{random.randint(11, 99)}",
    )
    return random.choice(forms)


def _codes(code: str) -> Iterator[tuple[str, str]]:
    figures = "".join(filter(str.isdigit, code))
    yield from (
        ("plain", code),
        ("lower case", code.lower()),
        ("without marks", squashed(code).upper()),
        ("behind a word", f"mrn {code}"),
    )
    yield from (
        ("joined to a word", f"mrn{squashed(code)}"),
        ("figures alone", figures),
        ("without zeros", figures.lstrip("0")),
    )
    yield from (
        ("in groups", " ".join(figures[at : at + 3] for at in range(0, len(figures), 3))),
        ("apart", " ".join(figures)),
    )
    yield from (
        ("with other marks", "-".join(figures[at : at + 2] for at in range(0, len(figures), 2))),
        ("turned round", figures[::-1]),
    )


def _days(day: date) -> Iterator[tuple[str, str]]:
    for form in ("%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%b-%Y", "%d %B %Y", "%B %d, %Y", "%d%m%Y", "%y%m%d", "%d.%m.%y", "%Y/%m/%d",
                 "%Y.%m.%d", "%Y_%m_%d", "born %d.%m.%Y", "%d%b%Y", "%Y %m %d"):  # fmt: skip
        yield form, day.strftime(form)
    yield "day.month.year without zeros", f"{day.day}.{day.month}.{day.year}"
    yield "German", f"{day.day}. {_MONTHS[day.month - 1]} {day.year}"


def _written(family: str, given: str, random: Random) -> Iterator[tuple[str, str]]:
    """A name in the spellings of people, programs and of who hides it."""
    yield from (
        ("family^given", f"{family}^{given}"),
        ("family, given", f"{family}, {given}"),
        ("given family", f"{given} {family}"),
    )
    yield from (
        ("joined", f"{family}{given}"),
        ("joined, given first", f"{given}{family}"),
        ("with marks", f"{family}_{given}"),
        ("with stops", f"{given}.{family}"),
    )
    yield from (
        ("upper case", f"{family} {given}".upper()),
        ("lower case", f"{family} {given}".lower()),
        ("other case", f"{family} {given}".swapcase()),
    )
    yield from (
        ("blanks doubled", f"{family}   {given}"),
        ("tabs", f"{family}\t{given}"),
        ("initial", f"{given[0]}. {family}"),
        ("with a number", f"{family}{given}{random.randint(1, 9)}"),
    )
    if min(len(family), len(given)) >= _SHORTEST_NAME and plain(family).isascii() and plain(family).isalpha():
        yield from (
            ("without marks on letters", f"{plain(family)} {plain(given)}"),
            ("letters apart", " ".join(family)),
            ("letters apart by marks", "-".join(family)),
        )
        yield from (
            ("user name", f"{plain(given)[0]}{plain(family)}".lower()),
            ("mail", f"{plain(given)}.{plain(family)}@mail.example".lower()),
        )
        if family.isascii():
            if (leet := family.translate(_LEET)) != family and 2 * sum(map(str.isalpha, leet)) > len(leet):
                yield "figures for letters", leet
            yield from (
                ("base64", base64.b64encode(family.encode()).decode()),
                ("hexadecimal", family.encode().hex()),
                ("escaped", f"%{ord(family[0]):02x}{family[1:]}"),
            )
