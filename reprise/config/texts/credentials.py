"""Hide the credentials that a text shows by its form, whoever wrote it: of a URL, a header, a connection string.

Nothing here knows the secrets of this machine; `pipeline.processes.redaction` looks those up and hides them as well.
Every error of Reprise passes through this module when it is shown (`reprise.config.errors`), in stages too.
"""

from __future__ import annotations

import re

HIDDEN = "***"

_IN_ADDRESS = re.compile(
    r"(?<=://)(?:[^\s/?#\"'<>]+|[^\s:/@\"'<>]+:(?!\d+[/?#])[^\s\"'<>]+)@"  # the second: a password with a slash in it
    r"|(?<![\w/:.@-])[\w.+-]+:[^\s:@/\"'<>]+@(?=(?:[\w-]+\.)+[A-Za-z]{2,}\b|localhost\b|(?:\d+\.){3}\d+\b)"
)
# A query is hidden whole: each store has its own names (X-Amz-Signature, X-Goog-Signature, sig, token, AWSAccessKeyId).
_QUERY = re.compile(r"(?<=\?)[\w.~%+$\[\]-]+=[^\s\"'`<>]*|(?<=#)(?:access|id|refresh)_token=[^\s\"'`<>]*")
_HEADER = re.compile(
    r"(?i)(\b(?:proxy-)?authorization[\"']?\s*[:=]\s*+[\"']?+)(?!\*)[^\"'\r\n]+"
    r"|(\b(?:set-)?cookie[\"']?\s*:\s*+[\"']?+)(?!\*)[^\"'\r\n]+"
    r"|(\b(?:bearer|basic)\s+)(?=[\w.~+/-]*(?:[\d=]|(?-i:[a-z][A-Z])))[\w.~+/-]{8,}=*"  # and not "basic training"
)
_NAMES = (
    r"x-(?:amz|goog|ms|oss|cos)-(?:signature|credential|security-token)|x-(?:api-key|auth-token)"
    r"|aws_?access_?key_?id|(?:aws_?)?secret_?access_?key|access_key_id|passw(?:or)?d|pwd|passphrase|secret|client[_-]?secret"
    r"|(?:access|refresh|id|auth|session|security|bearer|sas|api)[_-]?token"
    r"|(?:api|account|private|shared[_-]?access)[_-]?key|shared[_-]?access[_-]?signature|connection[_-]?string"
)
_VALUE = r"(?:\"[^\"\r\n]+\"|'[^'\r\n]+'|[^\s,;&\"'<>(){}\[\]]+)"
_FIELD = re.compile(
    rf"(?i)((?<![A-Za-z])(?:{_NAMES})[\"']?\s?=\s?){_VALUE}"
    rf"|([\"'](?:{_NAMES})[\"']:\s*){_VALUE}"  # JSON, or the text of a dictionary
    rf"|((?<=[&;])(?:sig|signature|token|key)=){_VALUE}"
)
_TOKEN = re.compile(  # of AWS, GitHub, GitLab, Hugging Face, Slack, Google, Prefect; a JSON web token; a private key
    r"(?<![A-Za-z0-9])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}"
    r"|xox[abposr]-[\w-]{10,}|AIza[\w-]{35}|pn[ub]_\w{16,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+)"
    r"|(?s:(?<=PRIVATE KEY-----).+?(?=-----END))"
)


def hide_credentials(text: str) -> str:
    """Replace credentials that can be told by their form by `***`.

    Hidden are user and password of a URL, every query of a URL, `Authorization` and `Cookie` headers, fields such as
    `password=...`, and tokens of well-known services.
    """
    text = _IN_ADDRESS.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(HIDDEN, text)
    for pattern in (_HEADER, _FIELD):
        text = pattern.sub(lambda match: next(group for group in match.groups() if group) + HIDDEN, text)
    return _TOKEN.sub(HIDDEN, text)
