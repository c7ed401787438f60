"""Write dvc.lock entry by entry: what did not change keeps its text.

For each stage that ends, DVC parses the whole file with all comments and line breaks and writes it again, in plain
Python: half a second at 60 stages, during which every other stage waits for DVC's lock. Each entry has lines of its
own, so only those of the entry that changed are written here. The result is DVC's own, byte for byte, but for numbers
of 17 digits in the other entries, of which DVC may change the last (tests/pipeline/graph/test_lock_text.py).
"""

from __future__ import annotations

import io
import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

_HEAD = re.compile(r"schema: [^\n]*\nstages:\n")
_ENTRY = re.compile(r"^  (?=[^ \n#])", re.MULTILINE)
_ANCHOR = re.compile(r"[:-] &")  # a value that another place repeats: its name depends on the whole file
_COMMENT = re.compile(r"(?:^|\s)#", re.MULTILINE)


def parsed(text: str) -> dict[str, Any]:
    """Return the content of dvc.lock as plain data.

    Raises:
        ruamel.yaml.error.YAMLError: it is no YAML.
    """
    return YAML(typ="safe").load(text) or {}


class LockText:
    """The text of dvc.lock, and its content, which may be changed.

    Attributes:
        content: what the file holds, as plain data: `schema` and `stages`, the entries by name.
    """

    def __init__(self, text: str) -> None:
        """Read the file.

        Args:
            text: of the file as it is; empty if there is none.

        Raises:
            ruamel.yaml.error.YAMLError: it is no YAML.
        """
        self._text = text
        self.content = parsed(text)
        stages = self.content.get("stages") if isinstance(self.content, dict) else None
        self._before = {name: _exactly(entry) for name, entry in stages.items()} if isinstance(stages, dict) else {}

    def changed(self) -> str:
        """Return the text with the present content.

        Returns:
            What DVC would write, which keeps comments. Entries that did not change keep their lines.

        Raises:
            ruamel.yaml.error.YAMLError: the content cannot be written as YAML.
        """
        if list(self.content) != ["schema", "stages"] or not self.content["stages"]:
            return _rewritten(self._text, self.content)
        blocks = _blocks(self._text, list(self._before)) if self._text else {}
        if blocks is None:
            return _rewritten(self._text, self.content)
        parts = [_written({"schema": self.content["schema"]}), "stages:\n"]
        for name, entry in self.content["stages"].items():
            if name in blocks and _exactly(entry) == self._before[name]:
                parts.append(blocks[name])
            else:
                parts.append(_written({"stages": {name: entry}}).removeprefix("stages:\n"))
        new = "".join(parts)
        return _rewritten(self._text, self.content) if _ANCHOR.search(new) else new


def _blocks(text: str, names: list[str]) -> dict[str, str] | None:
    """Return the lines of each entry, or None if the file is not laid out as DVC does it: no comments, no anchors."""
    head = _HEAD.match(text)
    if head is None or not text.endswith("\n") or _COMMENT.search(text) or _ANCHOR.search(text):
        return None
    begins = [found.start() for found in _ENTRY.finditer(text, head.end())]
    if len(begins) != len(names) or begins[:1] != [head.end()]:
        return None
    return {name: text[a:b] for name, a, b in zip(names, begins, [*begins[1:], len(text)], strict=True)}


def _exactly(value: Any) -> Any:
    """Return what differs wherever the text would: in types and in the order of keys as well."""
    if isinstance(value, Mapping):
        return {"mapping": [(repr(key), _exactly(each)) for key, each in value.items()]}
    return [_exactly(each) for each in value] if isinstance(value, list) else repr(value)


def _rewritten(text: str, content: Mapping[str, Any]) -> str:
    """Write the whole file as DVC does it: comments stay, entries that did not change keep their form."""
    document = _round_trip().load(text) or {}
    for key in [key for key in document if key not in content]:
        del document[key]
    document.update({key: value for key, value in content.items() if key != "stages"})
    if "stages" in content:
        old = document.get("stages") or {}
        kept = {
            name: old[name] if name in old and _exactly(old[name]) == _exactly(entry) else entry
            for name, entry in content["stages"].items()
        }
        if list(kept) == list(old) and old:
            old.update(kept)
        else:
            document["stages"] = kept
    return _written(document)


def _written(content: Any) -> str:
    text = io.StringIO()
    _round_trip().dump(content, text)
    return text.getvalue()


def _round_trip() -> YAML:
    yaml = YAML()  # the settings of dvc/utils/serialize/_yaml.py
    yaml.default_flow_style = False
    yaml.Representer.add_representer(OrderedDict, yaml.Representer.represent_dict)
    return yaml
