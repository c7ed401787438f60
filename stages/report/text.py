"""Texts of the page: names from the data on one safe, short line, and readable numbers.

Whatever comes from the data (class names, file names, reasons) may hold markup, control characters, marks that
reverse the reading direction, or ten thousand letters. Markup is escaped by jinja2; the rest is done here.
"""

from __future__ import annotations

import json
import math

from markupsafe import Markup

from reprise.config.errors import printable

NAME_LENGTH = 60  # characters of a class or file name on the page
LONGEST = 2000  # characters of any other text


def one_line(text: object, limit: int = NAME_LENGTH) -> str:
    """Write `text` on one line: invisible characters as escapes, and how long it is where it is cut after `limit`."""
    whole = str(text)
    line = printable(whole[: limit + 1], limit=10**9).replace("\n", "\\n")
    if len(whole) <= limit and len(line) <= 2 * limit:
        return line
    return f"{line[:limit]}… ({len(whole):,} characters)"


def abbreviate(text: object, limit: int) -> str:
    """Write `text` on one line of at most `limit` characters; a cut keeps both ends, which tell names apart."""
    line = one_line(text, LONGEST)
    return line if len(line) <= limit else f"{line[: limit // 2]}…{line[len(line) - (limit - limit // 2 - 1) :]}"


def finalize(value: object) -> object:
    """Prepare the value of an expression for jinja2: Markup stays, any other text becomes one bounded line."""
    if isinstance(value, Markup):
        return value
    return one_line(value, LONGEST) if isinstance(value, str) else value


def number(value: float | None, digits: int = 4) -> str:
    """Write a number as people do: 0.967, 12.35, 1,437, 1,200,000; a dash for None and for what is not finite."""
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
    "r2": "R²",
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
    """Write `knn.top1` as "kNN top-1 accuracy": unknown words stay, dots and underscores become spaces."""
    return one_line(" ".join(_TITLES.get(word, word) for part in metric.split(".") for word in part.split("_")))


def share(part: float, whole: float) -> str:
    """Write `part` of `whole` as a percentage with one decimal; a dash when `whole` is zero."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def quantity(value: float | None, unit: str = "") -> str:
    """Write a large count with a prefix: 86,220 stays, then 1.31 M, 1.31 G, 4.2 T; a dash for None."""
    if value is None or not math.isfinite(value):
        return "–"
    for size, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:,.0f} {unit}".strip()


def points(difference: float) -> str:
    """Write a difference of two shares in percentage points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def signed(difference: float) -> str:
    """Write a difference of two figures that are no shares, with its sign."""
    return f"{'−' if difference < 0 else '+'}{number(abs(difference))}"


def plain_points(difference: float) -> str:
    """Write the size of a difference of two shares in words: "5.4 points"."""
    return f"{abs(100 * difference):.1f} points"


def embed_json(value: object) -> Markup:
    """Write JSON that is safe inside <script>: without '<', '>', '&' and JavaScript's line separators."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - every character that could end the element is escaped above


def join_words(words: list[str], limit: int = 8) -> str:
    """Join words to "a, b and c", or to "a, b and 7 more" when there are more than `limit`."""
    if len(words) > limit:
        words = [*words[: limit - 1], f"{len(words) - limit + 1} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"
