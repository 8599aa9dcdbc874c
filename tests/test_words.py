"""One name a thing: words that were replaced come back nowhere in code, configurations and documentation."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("symdistill", "distill", "losses", "teachers", "students", "tools", "configs", "tests", "docs")
ENDINGS = (".py", ".yaml", ".md", ".sbatch", ".cfg", ".toml")
ITSELF = Path(__file__).resolve()

EVERYWHERE = {
    r"\btwins?\b": "baseline",
    r"\baids\b": "auxiliary losses, aux",
    r"\bleak[- ]guard\b": "overlap check",
    r"\bwords right\b": "word accuracy",
    r"\b(Joined|Mixed|Live|Training)Words\b": "ConcatWords, MixtureWords, SyntheticWords, DataModule",
    r"\bby_(positions|columns)\b": "decode_attention, decode_ctc",
    r"\bnear[- _]miss(es)?\b": "hard negatives",
    r"\bearlier_texts\b": "text_queue",
    r"\b(StageCache|StageStore|LabelStages|stage_cache|stage_store|label_stages)\b": "FeatureCache",
    r"\b(always_graded|graded_always)\b": "find_unused_parameters",
    r"\bDelivery\b|\bdeliverables?\b": "the exported model",
    r"\bdkd_(target|others)\b": "dkd_alpha, dkd_beta",
    r"\bbad_share\b": "max_corrupt",
    r"\bMETHOD \d": "docs/method.md, section n.n",
    r"\b(Shown|Wanted)\b": "ReaderFeatures, FeatureRequest",
    r"\b(resting|steady)\b": "unused_parameters, is_constant",
    r"\bseverity\b": "difficulty",
    r"\bS(PELLING|pelling)\b": "LOGITS, LogitsKind",
    r"\bself\.(ask|answer|widen|narrow)\b": "self_q, self_out, fc1, fc2",
    r"\.contexts\(": "context_mask",
    r"\bwithout blanks\b": "spaces; the blank is CTC's",
    r"\bone[- ]shot\b": "nar, non-autoregressive",
}
"""Patterns of old words with what is said instead. All are unambiguous: other old words have other meanings too."""
IN_TEXTS = {
    r"\bguidance\.(every|rows|soft|padding|pseudo|confidence|second_order|normalization)\b": "see distill/old_keys.py",
    r"\bdata\.(render|rendered|bad_share)\b": "data.synthetic, data.max_corrupt",
    r"\btrain\.(batch|accumulation|clip|deliver)\b": "batch_size, grad_accum, grad_clip, select",
    r"\bteacher\.text_store": "gone",
    r"`greedy`|decoding[=:] ?greedy|\brefinements[:=]": "ar, refine_iters",
    r"^compare:|\bcompare\.(test|twin|sets)\b": "eval",
}
"""The same for keys, in configurations and documentation alone: code has a table of them, to answer old files."""
OLD_FILES = {
    "distill/old_keys.py", "students/pretrained.py", "tests/distill/test_config.py",
    "tests/students/test_pretrained.py",
}  # fmt: skip
"""What maps or refuses the words of version 0.1."""


def texts(*endings: str) -> list[Path]:
    """Every text of the project with one of these endings."""
    files = [file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.suffix in endings]
    return [*files, *(file for file in ROOT.glob("*") if file.suffix in endings)]


def lines(file: Path) -> list[tuple[int, str]]:
    """Its lines with their numbers, without the recorded output of programs in documentation."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        text = re.sub(r"^```text\n.*?^```$", lambda actual: "\n" * actual[0].count("\n"), text, flags=re.M | re.S)
    return list(enumerate(text.splitlines(), start=1))


def uses(patterns: dict[str, str], files: list[Path]) -> list[str]:
    """Where old words stand, and what to write instead."""
    return [
        f"{file.relative_to(ROOT)}:{number}: {match[0]!r} is {new} now"
        for file in files if file.resolve() != ITSELF and str(file.relative_to(ROOT)) not in OLD_FILES
        for number, line in lines(file)
        for old, new in patterns.items() if (match := re.search(old, line))
    ]  # fmt: skip


def test_no_old_word_is_used() -> None:
    assert not uses(EVERYWHERE, texts(*ENDINGS))


def test_no_old_key_is_used() -> None:
    assert not uses(IN_TEXTS, texts(".yaml", ".md", ".sbatch"))


def test_sections_of_the_method_that_are_named_exist() -> None:
    method = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    headings = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", method, re.M))
    for file in texts(*ENDINGS):
        for match in re.finditer(r"docs/method\.md, sections? ([\d., and]*\d)", file.read_text(encoding="utf-8")):
            missing = set(re.findall(r"\d+(?:\.\d+)?", match[1])) - headings
            assert not missing, f"{file.relative_to(ROOT)} names section {match[1]}"
