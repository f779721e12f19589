"""Undoing an edit: what was inserted is taken out, what was replaced is put back."""

from k8s.splice import Splice


def without(splices: tuple[Splice, ...], changed: str, original: str) -> str:
    """Take *splices* out of *changed* again; the result must be *original* if only they were written."""
    pieces, read, done = [], 0, 0
    for splice in splices:
        kept = splice.start - done
        pieces.append(changed[read : read + kept])
        assert changed[read + kept : read + kept + len(splice.text)] == splice.text
        pieces.append(original[splice.start : splice.end])
        read, done = read + kept + len(splice.text), splice.end
    return "".join(pieces) + changed[read:]
