"""Names of languages as containers want them: three letters of ISO 639-2 for Whisper's codes."""

from types import MappingProxyType

_PAIRS = """
af afr am amh ar ara as asm az aze ba bak be bel bg bul bn ben bo bod br bre bs bos ca cat cs ces
cy cym da dan de deu el ell en eng es spa et est eu eus fa fas fi fin fo fao fr fra gl glg gu guj
ha hau haw haw he heb hi hin hr hrv ht hat hu hun hy hye id ind is isl it ita ja jpn jw jav ka kat
kk kaz km khm kn kan ko kor la lat lb ltz ln lin lo lao lt lit lv lav mg mlg mi mri mk mkd ml mal
mn mon mr mar ms msa mt mlt my mya ne nep nl nld nn nno no nor oc oci pa pan pl pol ps pus pt por
ro ron ru rus sa san sd snd si sin sk slk sl slv sn sna so som sq sqi sr srp su sun sv swe sw swa
ta tam te tel tg tgk th tha tk tuk tl tgl tr tur tt tat uk ukr ur urd uz uzb vi vie yi yid yo yor
yue yue zh zho
"""
_LETTERS = MappingProxyType(dict(zip(_PAIRS.split()[::2], _PAIRS.split()[1::2], strict=True)))


def three_letters(code: str) -> str:
    """ISO 639-2/T of a code; a code of three letters is itself, an unknown one "und"."""
    return _LETTERS.get(code, code if len(code) == 3 else "und")


def language_name(code: str) -> str:
    """The language's English name as Whisper has it; the code itself where it has none."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return str(LANGUAGES.get(code, code)).capitalize()
