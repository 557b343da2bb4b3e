"""The one error type that operators see: a number, the situation, and the remedy."""

from __future__ import annotations


class SmrfedError(Exception):
    """An error with a number that has a page under ``docs/errors``.

    Args:
        code: ``SMR-Exyz``; the page ``docs/errors/SMR-Exyz.md`` explains it.
        what: one sentence: what went wrong, naming the file, site or value.
        remedy: one sentence: what the reader can do now.
        expected: what would have been accepted.
        found: what came instead (shape, value, path).
    """

    def __init__(
        self,
        code: str,
        what: str,
        *,
        remedy: str,
        expected: object | None = None,
        found: object | None = None,
    ) -> None:
        self.code = code
        self.what = what
        self.remedy = remedy
        self.expected = expected
        self.found = found
        super().__init__(self.render())

    def __reduce__(self) -> tuple[object, ...]:
        """An error crosses from one process to another as the texts that it shows."""
        expected, found = (
            None if value is None else str(value) for value in (self.expected, self.found)
        )
        return _rebuilt, (self.code, self.what, self.remedy, expected, found)

    def render(self) -> str:
        """The error as an operator reads it: code, situation, remedy, one per line."""
        lines = [f"[{self.code}] {self.what}"]
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.found is not None:
            lines.append(f"  found:    {self.found}")
        lines.append(f"  remedy:   {self.remedy}")
        return "\n".join(lines)


def _rebuilt(
    code: str, what: str, remedy: str, expected: str | None, found: str | None
) -> SmrfedError:
    return SmrfedError(code, what, remedy=remedy, expected=expected, found=found)
