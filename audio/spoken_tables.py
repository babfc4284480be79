"""Tables of written signs and short forms with the words they stand for."""

from __future__ import annotations

CURRENCIES = {
    "$": ("dollar", "cent"),
    "€": ("euro", "cent"),
    "£": ("pound", "penny"),
    "¥": ("yen", ""),
    "₹": ("rupee", "paisa"),
}
UNITS = {
    "km/h": "kilometer per hour",
    "mph": "mile per hour",
    "m/s": "meter per second",
    "km²": "square kilometer",
    "m²": "square meter",
    "m³": "cubic meter",
    "km": "kilometer",
    "cm": "centimeter",
    "mm": "millimeter",
    "m": "meter",
    "mi": "mile",
    "ft": "foot",
    "kg": "kilogram",
    "mg": "milligram",
    "g": "gram",
    "lb": "pound",
    "lbs": "pound",
    "oz": "ounce",
    "ml": "milliliter",
    "l": "liter",
    "L": "liter",
    "ms": "millisecond",
    "s": "second",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "Hz": "hertz",
    "kHz": "kilohertz",
    "MHz": "megahertz",
    "GHz": "gigahertz",
    "kW": "kilowatt",
    "kWh": "kilowatt hour",
    "W": "watt",
    "V": "volt",
    "B": "byte",
    "KB": "kilobyte",
    "kB": "kilobyte",
    "MB": "megabyte",
    "GB": "gigabyte",
    "TB": "terabyte",
    "px": "pixel",
    "dB": "decibel",
    "°C": "degree Celsius",
    "°F": "degree Fahrenheit",
    "°": "degree",
}
IRREGULAR = {"foot": "feet", "penny": "pence", "yen": "yen", "paisa": "paise"}

ABBREVIATIONS = {
    "Dr.": "Doctor",
    "Mr.": "Mister",
    "Mrs.": "Missus",
    "Ms.": "Miz",
    "Prof.": "Professor",
    "Gen.": "General",
    "Gov.": "Governor",
    "Sen.": "Senator",
    "Capt.": "Captain",
    "Lt.": "Lieutenant",
    "Sgt.": "Sergeant",
    "Rev.": "Reverend",
    "Mt.": "Mount",
    "Ave.": "Avenue",
    "Blvd.": "Boulevard",
    "Rd.": "Road",
    "Ph.D.": "P H D",
    "Jr.": "Junior",
    "Sr.": "Senior",
    "Inc.": "Incorporated",
    "Ltd.": "Limited",
    "Corp.": "Corporation",
    "Co.": "Company",
    "Dept.": "Department",
    "Fig.": "Figure",
    "Vol.": "Volume",
    "vol.": "volume",
    "approx.": "approximately",
    "est.": "established",
    "vs.": "versus",
    "vs": "versus",
    "e.g.": "for example",
    "i.e.": "that is",
    "etc.": "et cetera",
    "cf.": "compare",
    "w/o": "without",
    "w/": "with",
    "OK": "okay",
}
# Capitals that are read as a word; other groups of capitals are spelled.
READ_AS_WORDS = frozenset(
    str.split(
        """NASA NATO UNESCO UNICEF FIFA OPEC AIDS COVID LASER RADAR SCUBA RAM ROM PIN SIM GIF
        JPEG YAML BASIC ASCII NOT NO AND OR THE ALL STOP GO DO YES IS ARE BUT IF ON IN
        TO OF SO WE YOU HE SHE MY BY AT AN AS"""
    )
)
LONGEST_SPELLED = 3  # letters; longer groups with a vowel are read as words

# How the signs in web and mail addresses are named.
ADDRESS_SIGNS = {
    ".": "dot",
    "/": "slash",
    "@": "at",
    "-": "dash",
    "_": "underscore",
    ":": "colon",
    "?": "question mark",
    "=": "equals",
    "&": "and",
    "#": "hash",
    "%": "percent",
    "+": "plus",
    "~": "tilde",
}
