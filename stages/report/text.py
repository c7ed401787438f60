"""Text for people: names from the data made safe and short, numbers made readable.

Whatever comes from the data (class names, file names, reasons) may hold markup, control characters, marks that
reverse the reading direction, or ten thousand letters. Markup is escaped by jinja2; the rest is done here.
"""

from __future__ import annotations

import json
import math

from markupsafe import Markup

from reprise.config.errors import printable

NAME_LENGTH = 60  # characters of a class or file name that are shown
LONGEST = 2000  # characters of any other text


def shown(text: object, limit: int = NAME_LENGTH) -> str:
    """`text` on one line: invisible characters as escapes, at most `limit` characters and how many were left out."""
    whole = str(text)
    line = printable(whole[: limit + 1], limit=10**9).replace("\n", "\\n")
    if len(whole) <= limit and len(line) <= 2 * limit:
        return line
    return f"{line[:limit]}… ({len(whole):,} characters)"


def abbreviated(text: object, limit: int) -> str:
    """`text` on one line of at most `limit` characters: beyond that its beginning and end, which tell names apart."""
    line = shown(text, LONGEST)
    return line if len(line) <= limit else f"{line[: limit // 2]}…{line[len(line) - (limit - limit // 2 - 1) :]}"


def finalized(value: object) -> object:
    """What jinja2 prints for an expression: Markup as it is, any other text made safe and bounded."""
    if isinstance(value, Markup):
        return value
    return shown(value, LONGEST) if isinstance(value, str) else value


def number(value: float | None, digits: int = 4) -> str:
    """A number as people write it: 0.967, 1,437, 12.35, 1.2 million stays 1,200,000; a dash for none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) >= 10):
        return f"{int(value):,}"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if 0.001 <= size <= 1.5 or size == 0:
        return f"{value:.{digits - 1}f}"
    return f"{value:.{digits - 1}e}" if size < 0.001 else f"{value:.{digits}g}"


_TITLES = {
    "knn": "kNN",
    "linear": "Linear",
    "spectrum": "Spectrum",
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "rankme": "RankMe",
    "cka": "CKA",
    "rsa": "RSA",
    "mle": "maximum likelihood",
    "nn": "NN",
    "svm": "SVM",
    "gacil": "G-ACIL",
    "r2": "RÂ²",
    "mae": "mean absolute error",
    "sd": "standard deviation of",
    "nmi": "NMI",
    "ari": "ARI",
    "nll": "NLL",
    "ece": "ECE",
    "std": "standard deviation",
    "val": "on val",
}


def metric_title(metric: str) -> str:
    """`knn.top1` as a title: kNN top-1 accuracy. Unknown words stay, dots and underscores become spaces."""
    return shown(" ".join(_TITLES.get(word, word) for part in metric.split(".") for word in part.split("_")))


def share(part: float, whole: float) -> str:
    """`part` of `whole` as a percentage with one decimal; a dash when there is no whole."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def quantity(value: float | None, unit: str = "") -> str:
    """A large count in thousands steps: 86,220 stays, 1.31 G, 4.2 T; a dash for none."""
    if value is None or not math.isfinite(value):
        return "–"
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:,.0f} {unit}".strip()


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def embedded_json(value: object) -> Markup:
    """JSON that is safe inside <script>: no '<', '>', '&', and no line separators of JavaScript."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - every character that could end the element is escaped above


def listed(words: list[str], limit: int = 8) -> str:
    """`a, b and c`; beyond `limit`: `a, b and 7 more`."""
    if len(words) > limit:
        words = [*words[: limit - 1], f"{len(words) - limit + 1} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"
