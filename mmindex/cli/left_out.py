"""Files that an export leaves out: some by name, and all counted by reason."""

from __future__ import annotations

from collections import Counter

from mmindex.cli.printing import counted, print_message

_NAMED = 20  # files


class FilesLeftOut:
    """Takes the files that are left out; prints them when the output is whole."""

    def __init__(self, *, verbose: bool) -> None:
        self._verbose = verbose
        self._named: list[tuple[str, str]] = []
        self._counts: Counter[str] = Counter()

    def take(self, location: str, reason: str) -> None:
        """Count a file by the first word of its reason, which ends with a colon."""
        self._counts[reason.partition(":")[0]] += 1
        if self._verbose or len(self._named) < _NAMED:
            self._named.append((location, reason))

    def print(self) -> None:
        """Print the names, and how many files there are of each reason."""
        for location, reason in self._named:
            print_message(f"left out: {location}: {reason}")
        total = self._counts.total()
        if not total:
            return
        parts = [f"{count:,} {word}" for word, count in self._counts.most_common()]
        more = " (-v names them)" if total > len(self._named) else ""
        files = counted(total, "file", grouped=True)
        print_message(f"{files} left out: {', '.join(parts)}{more}")
