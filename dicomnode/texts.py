"""The words of results in every language that the node writes: one table. Codes stay codes, names of regions the model's.

Floor 1, pure. A text with a blank in it has it as ``{name}``; `Words` fills it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from dicomnode import coding
from dicomnode.coding import CodedConcept
from dicomnode.errors import REASONS

LANGUAGES: Final = ("en", "de", "fr", "zh")

#: Key → text in the order of `LANGUAGES`.
TABLE: Final[Mapping[str, tuple[str, str, str, str]]] = MappingProxyType(
    {
        # What every result says.
        "not-reviewed": (
            "AI result, not reviewed by a physician",
            "KI-Ergebnis, nicht ärztlich geprüft",
            "Résultat d'IA, non vérifié par un médecin",
            "人工智能结果,未经医师审核",
        ),
        "not-reviewed-sentence": (
            "AI result, not reviewed by a physician.",
            "KI-Ergebnis, nicht ärztlich geprüft.",
            "Résultat d'IA, non vérifié par un médecin.",
            "人工智能结果,未经医师审核。",
        ),
        "research-only": (
            "For research only; not for diagnosis or treatment.",
            "Nur für die Forschung; nicht für Diagnose oder Behandlung.",
            "Pour la recherche uniquement ; ni diagnostic ni traitement.",
            "仅供研究使用,不得用于诊断或治疗。",
        ),
        "research-only-mark": (
            "RESEARCH USE ONLY",
            "NUR FÜR DIE FORSCHUNG",
            "RECHERCHE UNIQUEMENT",
            "仅供研究使用",
        ),
        "research-only-short": ("(research only)", "(nur Forschung)", "(recherche)", "(仅供研究)"),
        "not-reviewed-short": (
            "AI result, not reviewed",
            "KI-Ergebnis, nicht geprüft",
            "Résultat d'IA, non vérifié",
            "人工智能结果,未经审核",
        ),
        "derivation": (
            "Key slices with the outlines and values that an AI model found",
            "Schlüsselschichten mit Umrissen und Werten, die ein KI-Modell fand",
            "Coupes clés avec les contours et valeurs trouvés par un modèle d'IA",
            "关键层面及人工智能模型得出的轮廓和数值",
        ),
        "both-lungs": ("Both lungs", "Beide Lungen", "Deux poumons", "双肺"),
        "total": ("Total", "Gesamt", "Total", "合计"),
        "not-found": (
            "{label} was not found.",
            "{label} wurde nicht gefunden.",
            "{label} : non trouvé.",
            "未发现:{label}。",
        ),
        "model": (
            "Model {name} {version}",
            "Modell {name} {version}",
            "Modèle {name} {version}",
            "模型 {name} {version}",
        ),
        # The key image and the document.
        "measurements": ("Measurements", "Messwerte", "Mesures", "测量值"),
        "remarks": ("Remarks", "Bemerkungen", "Remarques", "备注"),
        "distribution": ("Density distribution", "Dichteverteilung", "Distribution des densités", "密度分布"),
        "nothing-found": ("Nothing found", "Nichts gefunden", "Rien trouvé", "未发现异常目标"),
        "lower-bound": (
            "cut by the scan or field of view: lower bound",
            "durch Scan oder Bildfeld abgeschnitten: Untergrenze",
            "coupé par l'examen ou le champ : borne inférieure",
            "被扫描范围或视野截断:下限值",
        ),
        "caveat": ("see remarks", "siehe Bemerkungen", "voir remarques", "见备注"),
        "unprintable": (
            "(in letters that this page cannot print)",
            "(in Buchstaben, die diese Seite nicht drucken kann)",
            "(en lettres que cette page ne peut imprimer)",
            "(本页无法打印的文字)",
        ),
        "unseen": ("in none of these views", "in keiner dieser Ansichten", "dans aucune de ces vues", "不在所示视图中"),
        "more": ("and {count} more", "und {count} weitere", "et {count} autres", "另有{count}项"),
        "window": ("W", "F", "F", "窗宽"),
        "level": ("L", "Z", "C", "窗位"),
        # The columns of its table, and what its views are called.
        "volume": ("Volume", "Volumen", "Volume", "体积"),
        "mean": ("Mean", "Mittel", "Moyenne", "平均"),
        "axial": ("Axial", "Axial", "Axiale", "轴位"),
        "coronal": ("Coronal", "Koronal", "Coronale", "冠状位"),
        "sagittal": ("Sagittal", "Sagittal", "Sagittale", "矢状位"),
        # What qualifies measurements.
        "uneven": (
            "The distances between slices vary: each slice counts as far as half-way to its neighbours.",
            "Die Schichtabstände sind ungleich: Jede Schicht zählt bis zur halben Entfernung ihrer Nachbarn.",
            "Les distances entre les coupes varient : chaque coupe compte jusqu'à mi-chemin de ses voisines.",
            "层间距不一致:每层计至与相邻层的中点。",
        ),
        "no-thickness": (
            "LAA-950 and 15th percentile density are not given: the slice thickness is not stated.",
            "LAA-950 und 15. Perzentil der Dichte werden nicht angegeben: Die Schichtdicke ist nicht genannt.",
            "LAA-950 et 15e percentile de densité ne sont pas donnés : l'épaisseur de coupe n'est pas indiquée.",
            "未给出LAA-950和第15百分位密度:未注明层厚。",
        ),
        "too-thick": (
            "LAA-950 and 15th percentile density are not given: slices are {thickness} mm thick, the limit is {limit} mm.",
            "LAA-950 und 15. Perzentil der Dichte werden nicht angegeben: Schichtdicke {thickness} mm, Grenze {limit} mm.",
            "LAA-950 et 15e percentile de densité ne sont pas donnés : coupes de {thickness} mm, limite {limit} mm.",
            "未给出LAA-950和第15百分位密度:层厚{thickness} mm,上限{limit} mm。",
        ),
        "kernel": (
            "The reconstruction kernel is sharp or unknown: LAA-950 and 15th percentile density may be off.",
            "Der Rekonstruktionskern ist hart oder unbekannt: LAA-950 und 15. Perzentil der Dichte können abweichen.",
            "Le filtre de reconstruction est dur ou inconnu : LAA-950 et 15e percentile de densité peuvent être faussés.",
            "重建卷积核锐利或未知:LAA-950和第15百分位密度可能有偏差。",
        ),
        "contrast": (
            "Contrast agent was given: it raises lung density.",
            "Kontrastmittel wurde gegeben: Es erhöht die Lungendichte.",
            "Un produit de contraste a été injecté : il augmente la densité pulmonaire.",
            "已使用对比剂:会使肺密度升高。",
        ),
        "contrast-maybe": (
            "Contrast agent may have been given: it raises lung density.",
            "Möglicherweise wurde Kontrastmittel gegeben: Es erhöht die Lungendichte.",
            "Un produit de contraste a peut-être été injecté : il augmente la densité pulmonaire.",
            "可能使用了对比剂:会使肺密度升高。",
        ),
        "cut": (
            "{label} is cut by {what}: its volume is a lower bound.",
            "{label} ist abgeschnitten ({what}): Das Volumen ist eine Untergrenze.",
            "{label} est coupé ({what}) : son volume est une borne inférieure.",
            "{label}被截断({what}):其体积为下限值。",
        ),
        "scan-end": (
            "the {where} end of the scan",
            "Scanende {where}",
            "fin de l'examen : {where}",
            "扫描范围{where}端",
        ),
        "scan-ends": (
            "the {where} ends of the scan",
            "Scanenden {where}",
            "fins de l'examen : {where}",
            "扫描范围{where}端",
        ),
        "view-edge": (
            "the {where} edge of the field of view",
            "Bildfeldrand {where}",
            "bord du champ : {where}",
            "视野{where}缘",
        ),
        "view-edges": (
            "the {where} edges of the field of view",
            "Bildfeldränder {where}",
            "bords du champ : {where}",
            "视野{where}缘",
        ),
        "and": (" and ", " und ", " et ", "和"),
        "superior": ("superior", "oben", "supérieur", "上"),
        "inferior": ("inferior", "unten", "inférieur", "下"),
        "right": ("right", "rechts", "droit", "右"),
        "left": ("left", "links", "gauche", "左"),
        "anterior": ("anterior", "vorne", "antérieur", "前"),
        "posterior": ("posterior", "hinten", "postérieur", "后"),
        "patient": ("Patient", "Patient", "Patient", "患者"),
        "born": ("Born", "Geboren", "Né(e) le", "出生日期"),
        "study": ("Study", "Untersuchung", "Examen", "检查"),
        "region": ("Region", "Region", "Région", "部位"),
        "method": ("Value", "Wert", "Valeur", "数值"),
        "findings": ("Findings", "Befunde", "Résultats", "发现"),
        "probability": ("probability", "Wahrscheinlichkeit", "probabilité", "概率"),
        # What a series and a document are called.
        "segmentation": ("segmentation", "Segmentierung", "segmentation", "分割"),
        "report": ("measurements", "Messwerte", "mesures", "测量值"),
        "key-image": ("key image", "Schlüsselbild", "image clé", "关键图像"),
        "key-objects": ("key slices", "Schlüsselschichten", "coupes clés", "关键层面"),
        "document": ("report", "Bericht", "compte rendu", "报告"),
        "parametric-map": ("probability map", "Wahrscheinlichkeitskarte", "carte de probabilité", "概率图"),
        "outcome": ("outcome", "Ergebnis", "issue", "处理结果"),
        "rejection": ("rejection note", "Rückweisung", "note de rejet", "撤回说明"),
        "rtstruct": ("contours, UNAPPROVED", "Konturen, UNAPPROVED", "contours, UNAPPROVED", "轮廓 UNAPPROVED"),
        # Outcomes.
        "no-finding": (
            "No finding: the model found none of what it looks for.",
            "Kein Befund: Das Modell fand nichts von dem, was es sucht.",
            "Aucun résultat : le modèle n'a rien trouvé de ce qu'il cherche.",
            "无发现:模型未找到其目标。",
        ),
        "sought": ("Looked for: {what}.", "Gesucht wurde: {what}.", "Recherché : {what}.", "检索目标:{what}。"),
        "nothing-else": (
            "Nothing else was looked for: this says nothing about other findings.",
            "Nach anderem wurde nicht gesucht: Über andere Befunde sagt dies nichts.",
            "Rien d'autre n'a été recherché : cela ne dit rien d'autres anomalies.",
            "未检索其他内容:本结果不涉及其他发现。",
        ),
        "not-processed": (
            "Not processed: {reason}.",
            "Nicht verarbeitet: {reason}.",
            "Non traité : {reason}.",
            "未处理:{reason}。",
        ),
        "superseded": (
            "Replaced by a newer AI result of more or other images.",
            "Durch ein neueres KI-Ergebnis aus mehr oder anderen Bildern ersetzt.",
            "Remplacé par un résultat d'IA plus récent, fait de plus ou d'autres images.",
            "已被基于更多或其他图像的新人工智能结果取代。",
        ),
        "found-wrong": (
            "This AI result was found wrong and is retracted.",
            "Dieses KI-Ergebnis wurde als falsch erkannt und ist zurückgezogen.",
            "Ce résultat d'IA s'est révélé faux et est retiré.",
            "该人工智能结果被发现有误,现予撤回。",
        ),
    }
)

#: Why a study was not processed: code of `errors.REASONS` → German, French, Chinese; the English stands there.
REASON_TABLE: Final[Mapping[str, tuple[str, str, str]]] = MappingProxyType(
    {
        "geometry-attribute-missing": (
            "einer Schicht fehlen Lage, Orientierung, Pixelabstand oder Größe",
            "il manque à une coupe sa position, son orientation, son espacement ou sa taille",
            "某一层面缺少位置、方向、间距或尺寸",
        ),
        "geometry-too-few-slices": (
            "die Serie hat zu wenige Schichten für dieses Modell",
            "la série a trop peu de coupes pour ce modèle",
            "该序列的层数不足以供此模型使用",
        ),
        "geometry-gap": (
            "in der Mitte der Serie fehlen Schichten",
            "des coupes manquent au milieu de la série",
            "序列中间缺少层面",
        ),
        "geometry-irregular-spacing": (
            "der Schichtabstand ist zu ungleich",
            "la distance entre les coupes varie trop",
            "层间距差异过大",
        ),
        "geometry-duplicate-position": (
            "zwei Schichten liegen an derselben Stelle",
            "deux coupes sont à la même position",
            "两个层面位置重复",
        ),
        "geometry-gantry-tilt": (
            "die Schichten sind gegeneinander verschoben, mehr als durch eine Gantrykippung",
            "les coupes sont décalées entre elles, plus que par une inclinaison du statif",
            "层面相互错位，超出机架倾斜所致",
        ),
        "geometry-mixed-orientation": (
            "die Schichten der Serie haben verschiedene Orientierungen",
            "les coupes de la série ont des orientations différentes",
            "序列中层面方向不一致",
        ),
        "geometry-mixed-size": (
            "die Schichten der Serie haben verschiedene Größen oder Pixelabstände",
            "les coupes de la série ont des tailles ou des espacements différents",
            "序列中层面尺寸或间距不一致",
        ),
        "geometry-mixed-frame-of-reference": (
            "die Schichten der Serie haben verschiedene Bezugssysteme",
            "les coupes de la série ont des repères différents",
            "序列中层面的参考坐标系不一致",
        ),
        "geometry-spacing-too-wide": (
            "die Schichten liegen für dieses Modell zu weit auseinander",
            "les coupes sont trop éloignées pour ce modèle",
            "层间距过大,不适用于此模型",
        ),
        "geometry-extent-too-short": (
            "die Serie zeigt zu wenig vom Körper für dieses Modell",
            "la série couvre trop peu du corps pour ce modèle",
            "序列覆盖的身体范围不足以供此模型使用",
        ),
        "pixel-undecodable": (
            "die Pixeldaten lassen sich nicht dekodieren",
            "les pixels ne peuvent pas être décodés",
            "像素数据无法解码",
        ),
        "pixel-unsupported": (
            "dieses Pixelformat wird nicht unterstützt",
            "ce format de pixels n'est pas pris en charge",
            "不支持该像素格式",
        ),
        "pixel-missing": (
            "einem Bild fehlen Pixeldaten",
            "il manque à une image des pixels",
            "图像缺少像素数据",
        ),
        "rescale-attribute-missing": (
            "ein Bild sagt nicht, was seine Pixelwerte bedeuten: Rescale Slope oder Intercept fehlt, ist null oder keine Zahl",
            "une image ne dit pas ce que valent ses pixels : Rescale Slope ou Intercept manque, est nul ou n'est pas un nombre",
            "图像未说明像素值的含义:缩放斜率或截距缺失、为零或不是数字",
        ),
        "memory-too-large": (
            "die Untersuchung braucht mehr Speicher, als erlaubt ist",
            "l'examen demande plus de mémoire que permis",
            "检查所需内存超过允许值",
        ),
    }
)

#: What measurements are called where people read them as text: concept → text in the order of `LANGUAGES`.
MEASUREMENTS: Final[Mapping[CodedConcept, tuple[str, str, str, str]]] = MappingProxyType(
    {
        coding.VOLUME: ("Volume", "Volumen", "Volume", "体积"),
        coding.MEAN_LUNG_DENSITY: (
            "Mean lung density",
            "Mittlere Lungendichte",
            "Densité pulmonaire moyenne",
            "平均肺密度",
        ),
        coding.LAA_950: (
            "Low attenuation area < -950 HU",
            "Anteil niedriger Dichte < -950 HE",
            "Zone de faible atténuation < -950 UH",
            "低衰减区 < -950 HU",
        ),
        coding.PERC15: (
            "15th percentile lung density",
            "15. Perzentil der Lungendichte",
            "15e percentile de la densité pulmonaire",
            "肺密度第15百分位数",
        ),
    }
)
#: Units as people write them, by their UCUM code; others stand as their code.
UNITS: Final[Mapping[str, tuple[str, str, str, str]]] = MappingProxyType(
    {
        "[hnsf'U]": ("HU", "HE", "UH", "HU"),
        "mm2": ("mm²", "mm²", "mm²", "mm²"),
        "1": ("", "", "", ""),
    }
)

#: Language of a content item (CID 5000).
LANGUAGE_CONCEPTS: Final[Mapping[str, CodedConcept]] = MappingProxyType(
    {
        "en": CodedConcept("en", "RFC5646", "English"),
        "de": CodedConcept("de", "RFC5646", "German"),
        "fr": CodedConcept("fr", "RFC5646", "French"),
        "zh": CodedConcept("zh", "RFC5646", "Chinese"),
    }
)


@dataclass(frozen=True, slots=True)
class Words:
    """The table in one language.

    Raises
    ------
    ValueError
        If the table has no such language.
    """

    language: str = "en"

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise ValueError(f"no texts in {self.language!r}")

    def say(self, key: str, **blanks: str) -> str:
        """Text under a key with its blanks filled."""
        return TABLE[key][LANGUAGES.index(self.language)].format(**blanks)

    def reason(self, code: str) -> str:
        """What a code of `errors.REASONS` means; English where the table has nothing."""
        if self.language == "en" or code not in REASON_TABLE:
            return REASONS[code].text
        return REASON_TABLE[code][LANGUAGES.index(self.language) - 1]

    def measurement(self, concept: CodedConcept) -> str:
        """What a measurement is called; its meaning where the table has nothing."""
        names = MEASUREMENTS.get(concept)
        return concept.meaning if names is None else names[LANGUAGES.index(self.language)]

    def unit(self, code: str) -> str:
        """A unit, by its code of UCUM, as people write it."""
        names = UNITS.get(code)
        return code if names is None else names[LANGUAGES.index(self.language)]

    @property
    def concept(self) -> CodedConcept:
        """The language as a coded concept."""
        return LANGUAGE_CONCEPTS[self.language]
