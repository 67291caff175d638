"""What of an audit deserves a warning, and what makes training impossible."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from kerasllm.data.leaks import MAX_LEAKED_SHARE
from kerasllm.data.problems import plural, quote

# Fewer rows of a label than this are hard to learn from.
MIN_ROWS_A_LABEL = 10
# Largest to smallest label: from here on, class weights are worth a try.
MAX_IMBALANCE = 10
_MAX_TRUNCATED = 0.1
_MAX_UNKNOWN = 0.05


def split_warnings(split: str, facts: dict[str, Any]) -> list[str]:
    """Says what is worth a look in the facts of one part."""
    warnings = label_warnings(split, facts["labels"] or {})
    for key, what in (("empty", "have an empty text"), ("duplicates", "repeat the text of another row")):
        if facts[key]["num_rows"]:
            warnings.append(f"{split}: {_rows_shown(facts[key])} {what}.")
    warnings.extend(conflict_warnings(split, facts["conflicts"]))
    for name, found in facts["suspicious"].items():
        warnings.append(f"{split}: {_rows_shown(found)} with {name}.")
    return warnings + ([] if facts["tokens"] is None else token_warnings(split, facts["tokens"]))


def _rows_shown(found: dict[str, Any]) -> str:
    return f"{plural(found['num_rows'], 'row')} ({', '.join(found['examples'])})"


def conflict_warnings(split: str, conflicts: dict[str, Any]) -> list[str]:
    """Says which texts have one label here and another there."""
    if not conflicts["num_texts"]:
        return []
    return [
        f"{split}: {plural(conflicts['num_texts'], 'text')} with different labels "
        f"({'; '.join(conflicts['examples'])})."
    ]


def label_warnings(split: str, labels: Mapping[str, int]) -> list[str]:
    """Says which labels are rare, far from balanced, or spelt in two ways."""
    warnings = []
    rare = {name: count for name, count in labels.items() if count < MIN_ROWS_A_LABEL}
    if split == "train" and rare:
        listed = ", ".join(f"{quote(name)} ({count})" for name, count in list(rare.items())[:5])
        warnings.append(
            f"{split}: {plural(len(rare), 'label')} with fewer than {MIN_ROWS_A_LABEL} rows: {listed}."
        )
    if split == "train" and labels and max(labels.values()) > MAX_IMBALANCE * min(labels.values()):
        most, least = max(labels, key=lambda n: labels[n]), min(labels, key=lambda n: labels[n])
        warnings.append(
            f"{split}: {quote(most)} has {labels[most]:,} rows and {quote(least)} {labels[least]:,}; try "
            "`class_weights='balanced'` or `-s training.class_weights=balanced`."
        )
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in labels:
        spellings[" ".join(name.casefold().split())].append(name)
    warnings.extend(
        f"{split}: the labels {names} differ only in case or white space; map them to one with "
        "`labels={…}`."
        for names in spellings.values()
        if len(names) > 1
    )
    return warnings


def token_warnings(split: str, tokens: dict[str, Any]) -> list[str]:
    """Says how much of the texts the model does not see, or does not know."""
    warnings = []
    if (tokens["truncated_share"] or 0) > _MAX_TRUNCATED:
        warnings.append(
            f"{split}: {tokens['truncated_share']:.0%} of rows are truncated at "
            f"{tokens['sequence_length']} tokens (p95 = {tokens['lengths']['p95']:.0f}); "
            "a larger `sequence_length` sees more of them."
        )
    if (tokens["unknown_share"] or 0) > _MAX_UNKNOWN:
        warnings.append(
            f"{split}: {tokens['unknown_share']:.0%} of tokens are unknown. "
            "Is the preset for another language?"
        )
    if tokens["without_tokens"]["num_rows"]:
        warnings.append(
            f"{split}: {_rows_shown(tokens['without_tokens'])} of whose text no token is known. "
            "Is the preset for another language?"
        )
    return warnings


def split_problems(split: str, facts: dict[str, Any]) -> list[str]:
    """Says what of one part makes training impossible."""
    if not facts["num_rows"]:
        return [f"{split}: no rows."]
    labels = facts["labels"]
    if split == "train" and labels is not None and len(labels) == 1 and not facts["multi_label"]:
        count = plural(facts["num_rows"], "row")
        return [
            f"{split}: all {count} have the label {quote(next(iter(labels)))}; a classifier needs at least 2."
        ]
    return []


def label_problems(splits: dict[str, dict[str, Any]]) -> list[str]:
    """Says which labels are evaluated and never learned."""
    trained = (splits.get("train") or {}).get("labels")
    if not trained:
        return []
    problems = []
    for split, facts in splits.items():
        unseen = {name: count for name, count in (facts["labels"] or {}).items() if name not in trained}
        listed = ", ".join(
            f"{quote(name)} ({plural(count, 'row')})" for name, count in list(unseen.items())[:5]
        )
        if unseen:
            problems.append(f"{split}: labels that no training row has: {listed}.")
    return problems


def leak_warnings(leaks: list[dict[str, Any]]) -> list[str]:
    """Says which texts are in two parts."""
    return [
        f"{leak['split']}: {plural(leak['num_rows'] + leak['num_similar'], 'row')} ({leak['share']:.1%}) "
        f"with a text that is in {leak['of']}, too ({'; '.join(leak['examples'])})."
        + (" So many say little about new texts." if leak["share"] > MAX_LEAKED_SHARE else "")
        for leak in leaks
    ]
