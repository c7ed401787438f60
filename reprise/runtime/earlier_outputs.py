"""Hold the outputs that a stage reads against dvc.lock before it reads them.

DVC restores an output from the cache without looking at its bytes, and takes a file of the folder for unchanged while
its size and time are. So bytes that somebody altered, in a shared cache or in the folder, would go into the results of
the next stage, and dvc.lock would say that they came from the right ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from reprise.config.dvc_file import Stage, overlaps
from reprise.config.errors import ObjectError, listed
from reprise.runtime.used_inputs import LOCK_FILE, lock_entry
from reprise.storage.content_hashes import ContentHashes, md5_of_members
from reprise.storage.system.signatures import signatures


def refuse_altered_outputs(stage: Stage, stages: Sequence[Stage]) -> None:
    """Stop where an output of an earlier stage, which this one reads, is not what dvc.lock records of it.

    Every file of the output is hashed once and remembered while it does not change. Outputs without a record are left
    out: their stage has not run.

    Args:
        stage: the stage that is about to run.
        stages: all stages of the graph.

    Raises:
        ObjectError: naming the outputs.
    """
    text = LOCK_FILE.read_text(encoding="utf-8") if LOCK_FILE.is_file() else ""
    recorded: dict[str, str] = {}
    for producer in stages:
        read = [out for out in producer.outs if any(overlaps(out, dep) for dep in stage.deps)]
        if producer.name != stage.name and read:
            entry = lock_entry(text, producer.name)
            if entry and entry.get("cmd") == producer.cmd:
                outs = {out["path"]: out["md5"] for out in entry.get("outs", []) if out.get("hash") == "md5"}
                recorded |= {path: md5 for path, md5 in outs.items() if path in read}
    found = md5s_of_outputs(recorded)
    wrong = [f"{path}: {found[path]} instead of {md5}" for path, md5 in recorded.items() if found[path] != md5]
    if wrong:
        raise ObjectError(
            "files that earlier stages wrote are not what dvc.lock records of them",
            where=stage.title,
            found=listed(wrong),
            fix="`reprise verify` names the files. Remove these outputs and run `reprise repro`, which takes only what "
            "is right from the cache and computes the rest.",
        )


def md5s_of_outputs(paths: Iterable[str]) -> dict[str, str]:
    """Return the MD5s by which DVC would record files and folders as they are now, or words where there is none.

    Args:
        paths: the files and folders.
    """
    members = {path: [file for file, status in signatures([path]).items() if status is not None] for path in paths}
    hashes = ContentHashes().md5s([file for files in members.values() for file in files])
    found = {}
    for path, files in members.items():
        md5s = {Path(file).relative_to(path).as_posix(): hashes[file] for file in files}
        if errors := [str(md5) for md5 in md5s.values() if isinstance(md5, OSError)]:
            found[path] = errors[0]
        elif Path(path).is_dir():
            found[path] = md5_of_members({name: md5 for name, md5 in md5s.items() if isinstance(md5, str)})
        else:
            found[path] = str(md5s.get(".", "nothing"))
    return found
