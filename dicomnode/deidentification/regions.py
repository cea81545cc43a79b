"""Words and codes for regions of the body: those with a head, and others. Pure tables and one question to them.

German, French, Spanish, Italian, Portuguese, Dutch, Japanese, Chinese and Korean beside English, and the commonest words
of Polish, Czech, Hungarian, Swedish, Danish, Greek, Russian, Turkish and Indonesian. In doubt a word is
taken for a head: what is taken for one too many is flagged or looked at, what is missed leaves the house.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum, auto
from functools import lru_cache
from types import MappingProxyType
from typing import Final


class Region(Enum):
    """What a text speaks of."""

    HEAD = auto()
    SUSPECTED = auto()  # techniques for the brain that other regions have seldom
    OTHER = auto()
    UNSAID = auto()


#: What looks like a head and is none: the head of a bone or of the pancreas, directions, positions, other sinuses.
_NO_HEADS: Final = re.compile(
    r"(femor|femur|humer|radia|radius|fibul|ulna|metatars|metacarp|pancrea|pankreas|bladder|uter|talar|scapul)\w*[ -]{0,2}(heads?|necks?)"
    r"|(heads?|necks?)[ -]of[ -](the[ -])?(femur|humerus|radius|fibula|ulna|pancreas)"
    r"|(h(ü|ue)ft|oberarm|femur|humerus|radius|fibula|pankreas|pancreas|muskel|mess)-?kopf\w*"
    r"|(t[eê]te|cabe[zçc]a|testa)[ -](de[ -]|del[ -]|du[ -]|di[ -]|do[ -]|da[ -]|of[ -]|la[ -]){0,2}"
    r"(f[eé]m|h[uú]m|[uú]mer|p[aá]ncr|radi|r[aá]di|omero)\w*"
    r"|(heads?|feet|kopf|f(ü|ue)(ß|ss)e)[ -]?(first|voran|zuerst)\w*|(over|a|fore(?=d))head"
    r"|cranio?[ -]?caud\w*|caudo?[ -]?crani\w*|cervico?[ -]?caud\w*"
    r"|(coronary|coronar|pilonidal|valsalva|carotid)\w*[ -]?sinus|sinus[ -]?(tarsi|coronar|rhythm|valsalva)\w*"
    r"|骨頭|骨头|断面|平面|正面|側面|侧面|界面|表面|子宮頸|子宫颈|宮頸|宫颈|手首|足首|乳頭|乳头"
)
_HEADS: Final = re.compile(
    r"head|brain|skull|crani|cr[âá]n|crane|cr[aá]neo|neuro|cereb|cérébr|cerveau|cervello|encéph|enc[eé]f|enceph|enzeph|hirn|kopf"
    r"|sch(ä|ae)del|schedel|hersen|hoofd|\bt[eê]te\b|cabe[zçc]a|\btesta\b|\bcapo\b"
    r"|\bfaces?\b|facial|fac(c)?iale|gesicht|visage|\bviso\b|\bcara\b|\brosto\b|massi[fc]|gelaat|aangezicht"
    r"|(?<![a-z])sinus|paranasal|\bnn?h\b|nasennebenh|nasal|\bnose\b|\bnase\b|\bnez\b|nariz|\bnaso\b|\bneus|seni[ -]paranas"
    r"|orbit|\beyes?\b|\baugen?\b|(œ|oe)il\b|\bojos?\b|\bocchi|\bolhos?\b|\boog\b|\bogen\b"
    r"|\bears?\b|innenohr|mittelohr|\bohr\b|felsenbein|rochers?\b|oreille|\bo[ií]dos?\b|orecchi|ouvido|\biac\b|mastoid|cochlea"
    r"|petrous|temporal[ -]?(bone|lobe)|lobe[ -]temporal|hippocamp|pituitar|hypophys|hip[oó]fis|ipofisi|\bsella"
    r"|\bjaws?\b|kiefer|mandib|maxil|m(â|a)choire|\bkaak|mascella|\bdental|\bdenta|\bdenti|zahn|z(ä|ae)hne|\btmj\b|\batm\b"
    r"|neck|\bhals|nacken|\bnek\b|\bcou\b|cuello|\bcollo\b|pesco[cç]o|lar[yií]n|phar[yií]n|rachenraum|farin"
    r"|\bc[ -]?spine|\bhws\b|halswirbel|cervical[ -]?(spine|vert|column)|(rachis|colonn[ae]|columna|coluna|col)[ -]cervical"
    r"|carotid|carótid|\bh ?&? ?n\b|\bhnc\b|willis|intracran|\bstroke\b|schlaganfall|flair|mp2?rage"
    r"|whole[ -]?body|\bwb\b|\bwbct\b|ganzk(ö|oe)rper|corps[ -]entier|cuerpo[ -](entero|completo)|corpo[ -](intero|inteiro)"
    r"|\bc?cct\b|circle[ -]of|\bcpa\b|\bpan[ -]?scan|vertex|parotid|scalp|tongue|zunge|zygom|\bctp\b|amyloid|tauvid|dat[ -]?scan"
    r"|g[łl]ow[aeyę]\b|czaszk|m[óo]zg|lebk|hlav[aey]\b|moz(ek|ku)\b|\bfej\b|koponya|\bagyi?\b|huvud|hj[äa]rn|skalle|hoved|hjern[ea]|κεφαλ|κρανί|εγκ[έε]φαλ"
    r"|голов|мозг|череп|\bkafa|\bbeyin|\bbaş\b|\botak\b|kepala|tengkorak"
    r"|total[ -]?body|hele[ -]lichaam|polytrauma|polytraum|politrauma"
    r"|頭|脳|顔|頸|鼻|顎|耳|全身|头|脑|腦|颅|顱|颈|颌|眼眶|眼窩|面部|머리|두부|뇌|경부|안면|전신"
)
_SUSPECTED: Final = re.compile(
    r"\bf-?mri\b|resting[ -]?state|\bbold\b|\bswip?\b|\bswan\b|\bdti\b|\bdsi\b|tractogra|\bp?c?asl\b|\bbravo\b|\btof\b|\bdsc\b"
)
#: Regions without a head: at the beginning of words alone, since what says one too many lets a head pass.
_OTHERS: Final = re.compile(
    r"(?<![^\W\d_])(?:ct|mrt?|mri|irm|tc|rm|tdm|ober|unter|mittel)?(?:"
    r"chest|thora[xckz]|lungs?\b|lungen?\b|brust|torace|t[oó]rax|borst|pulmon|poumon|polmon|abdom|bauch|addom|buik|tap\b|cap\b|liver|leber\b"
    r"|foie|h[ií]gado|fegato|f[ií]gado|hepat|pelvi|becken|bassin|bekken|pancrea|pankrea|kidney|nieren?\b|renal|spleen|milz|colon\b|bowel|darm"
    r"|enterogr|urogr|bladder|harnblase|prostat|uter[uoi]|cervix|ovar|rectum|rectal|rektum|breast|mamm[aoe]|heart|herz|cardia|kardi|coraz|cuore"
    r"|coronar|koronar|aorta|aorti|[lt]s?[ -]?spine|lumb|lendenw|lws\b|bws\b|thoracic|dorsal[ -]spine|sacr[uoai]|sakr|iliosac|coccy|stei(?:ß|ss)bein"
    r"|shoulder|schulter|(?:é|e)paule|hombro|spalla|ombro|schouder|elbow|ellen?bogen|coude|codo|gomito|arms?\b|humer[uoa]|femur|f[eé]mor|f[eé]mur"
    r"|wrist|handgelenk|poignet|mu[nñ]eca|polso|punho|hands?\b|mano\b|fingers?\b|thumb|daumen|hips?\b|h(?:ü|ue)ft|hanche|cadera|anca\b|quadril"
    r"|heup|thigh|oberschenkel|schenkel|knee|knie|genou|rodilla|ginocchi|joelho|legs?\b|beine?\b|jambe|tibia|fibula|calf\b|ankle|sprunggelenk"
    r"|cheville|tobillo|caviglia|enkel\b|foot\b|feet\b(?![ -]?first)|fu(?:ß|ss)\b|pieds?\b|piede|voet|extremit|run-?off|clavic|sternum|ribs?\b"
    r"|scapula)"
    r"|胸|腹|骨盤|骨盆|肝|肺|心臓|心脏|乳腺|膝|足|手関節|肩|股|腰|前列腺|흉부|복부|골반|무릎"
)
#: SNOMED CT (PS3.16 CID 4031, 4 and their like), by code: regions with a head or its lower half, and others.
_CODED_HEADS: Final = (
    "12738006", "69105007", "32062004", "86117002", "22286001", "113305005", "88556005", "122494005", "1217257000",
    "60819002", "11279006", "28726007", "128320002", "117590005", "53342003", "18962004", "38266002", "52374004",
    "84301002", "28347008", "81745001", "371398005", "79652003", "80243003", "89545001", "23074001", "91397008",
    "74872008", "69536005", "774007", "312779009", "21387005", "81502006", "22945000", "361078006", "1101003",
    "661005", "4596009", "48477009", "91609006", "59066005", "70925003", "25342003", "123851003", "286866000",
    "22688005", "74386004", "360955006", "45048000", "81727001", "417437006", "416319003", "416152001", "45206002",
    "31640002", "363654007", "2095001", "24924006", "45289007", "54066008", "312535008", "385294005", "41695006",
    "18619003", "42575006", "89546000", "49460000", "73117003", "5713008", "54019009", "28035005", "60911003",
    "53620006", "21974007", "38199008", "110517009", "87166008", "13881006", "55024004", "8012006", "43119007",
    "59011009", "85234005", "69748006", "T-D1000", "T-D1100", "T-D1200", "T-D1600", "T-A0100", "T-11100", "T-D0010",
)  # fmt: skip
_CODED_OTHERS: Final = (
    "818981001", "818982008", "113345001", "7832008", "85856004", "23451007", "70258002", "15825003", "91470000",
    "89837001", "72001000", "371195002", "76752008", "80144004", "71252005", "816094009", "51185008", "416775004",
    "416550000", "51299004", "64688005", "71854001", "41801008", "16953009", "66019005", "71341001", "87342007",
    "7569003", "56459004", "14975008", "28231008", "85562004", "80891009", "29836001", "24136001", "85050009",
    "64033007", "72696002", "10200004", "303270005", "30021000", "61685007", "52612000", "122496007", "1217253001",
    "39607008", "72410000", "15776009", "64234005", "816092008", "12921003", "1231522001", "41216001", "113197003",
    "39723000", "54735007", "79601000", "16982005", "30315005", "78961009", "56873002", "68367000", "113262008",
    "122495006", "1217256009", "76505004", "29707007", "53120007", "35039007", "40983000", "74670003", "T-D3000",
    "T-D4000", "T-D6000", "T-04000", "T-28000",
)  # fmt: skip
CODES: Final = MappingProxyType(
    {**dict.fromkeys(_CODED_OTHERS, Region.OTHER), **dict.fromkeys(_CODED_HEADS, Region.HEAD)}
)


@lru_cache(maxsize=1024)
def region_of(text: str) -> Region:
    """Region of which a text speaks; of several the head."""
    plain = unicodedata.normalize("NFKC", text).casefold().replace("_", " ")
    rest = _NO_HEADS.sub(" · ", plain)
    if _HEADS.search(rest):
        return Region.HEAD
    if _OTHERS.search(plain):
        return Region.OTHER
    return Region.SUSPECTED if _SUSPECTED.search(plain) else Region.UNSAID
