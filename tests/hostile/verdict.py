"""Whether a run of `vidtrack propagate` on a case of the corpus ended well; see `test_media` and the soak."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .corpus import Case, attested

LOST = " is not seen from frame "  # the warning about an object, not about the video
BAD_CODES = (1, 70)  # something unforeseen; an error that the user can mend has 2


def arguments(case: Case, video: Path) -> list[str]:
    """What is typed for a case; `video` is a good one, for masks."""
    if case.role == "mask":
        return ["propagate", str(video), "--mask", str(case.path), "--quiet"]
    return ["propagate", str(case.path), "--box", "0,0,2,2", "--quiet"]


def faults(case: Case, code: int, said: str, out: Path, skipped: bool = False) -> list[str]:
    """What is wrong with an ended run, a sentence each.

    Right is exit code 0 and a complete OUT, in which no frame is missing without a word; or 2, one sentence
    and no OUT.

    Args:
        case: what it was given.
        code: its exit code, negative for a signal.
        said: what stands on stderr.
        out: of `--out`.
        skipped: frames that can't be decoded get no labels (`--on-error skip`).
    """
    if code < 0:
        return [f"crashes with signal {-code}"]
    if "Traceback" in said or code in BAD_CODES:
        return [f"ends in exit code {code}: {said[-400:]}"]
    if code != 0:
        told = said.strip().splitlines()[-1:] or [""]
        found = [] if told[0].startswith("Error: ") and told[0].endswith(".") else [f"says {said!r}"]
        found += ["leaves an output in spite of its error"] if out.exists() else []
        return found + ([f"is refused: {said}"] if case.frames is not None else [])
    try:
        report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return [f"has no report in spite of exit code 0: {error}"]
    if case.role == "mask":
        return []
    found = []
    count, warnings = report["frame_count"], report["warnings"]
    if not skipped and len(report["frames"]) != count:
        found.append(f"has labels of {len(report['frames'])} of {count} frames")
    if bool(warnings) != bool(said.strip()):
        found.append(f"has the warnings {warnings} and says {said!r}")
    damaged = [text for text in warnings if LOST not in text]
    if case.frames is not None and (count != case.frames or damaged):
        found.append(f"gives {count} frames instead of {case.frames}, and {damaged}")
    if case.whole is not None and count < case.whole and not damaged and attested(case):
        found.append(f"loses frames, all but {count}, without a word")
    return found
