"""The words for what the network tells apart: 1,000 classes, everyday and broad words above them, and a lexicon.

`vocabulary.json` holds the classes in the network's order, each with its WordNet id; the words above them with level,
Chinese and classes; and English words of WordNet's tree with the classes below each.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from imgtag_pipeline.errors import ConfigError

PATH: Final = Path(__file__).with_name("vocabulary.json")
BROAD, EVERYDAY, EXACT = 1, 2, 3
# Classes that the network sees in noise, drawings and under the microscope: flatworm, nematode. Told only by `words`.
UNSAID: Final = frozenset((110, 111))


@dataclass(frozen=True, slots=True)
class Word:
    """One word: what it is called, how exact it is (1 broad, 2 everyday, 3 exact), and the classes that it covers.

    `id` is WordNet's where it has one; `zh` is the Chinese word where there is one.
    """

    name: str
    level: int | None
    classes: tuple[int, ...]
    id: str | None = None
    zh: str | None = None
    parent: str | None = None

    def said(self, language: str) -> tuple[str, str]:
        """The word in a language, and the language that it is in: English where there is no other."""
        return (self.zh, "zh") if language == "zh" and self.zh else (self.name, "en")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All words: `classes` one for each class of the network, `words` above them, `lexicon` for words of one's own."""

    classes: tuple[Word, ...]
    words: tuple[Word, ...]
    lexicon: dict[str, tuple[int, ...]]

    def standard(self) -> tuple[Word, ...]:
        """The words that are told by default. Classes of one name are one word; a word above them has precedence."""
        above = {each.name for each in self.words}
        exact: dict[str, Word] = {}
        for each in self.classes:
            if each.name in above or UNSAID.issuperset(each.classes):
                continue
            twin = exact.get(each.name)
            classes = (*twin.classes, *each.classes) if twin else each.classes
            exact[each.name] = Word(each.name, EXACT, classes, each.id, parent=each.parent)
        return (*self.words, *exact.values())

    def own(self, names: Sequence[str]) -> tuple[Word, ...]:
        """Words of the caller's choice, from the lexicon.

        Raises
        ------
        ConfigError
            For a word that it does not hold, with near ones.
        """
        known = {each.name.lower(): each for each in self.standard()}
        found = []
        for name in names:
            text = name.strip().lower()
            if text not in self.lexicon:
                raise ConfigError(f"words has {name.strip()!r}, which is not in the lexicon; {self._near(text)}")
            standard = known.get(text)
            id_, level = (standard.id, standard.level) if standard else (None, None)
            found.append(Word(name.strip(), level, self.lexicon[text], id_))
        return tuple(found)

    def _near(self, text: str) -> str:
        near = difflib.get_close_matches(text, self.lexicon, 4, 0.7)
        near += [word for word in self.lexicon if text and text in word.split() and word not in near][: 4 - len(near)]
        return f"near ones: {', '.join(near)}" if near else "give common English nouns such as dog, mug, bridge"


@cache
def load_vocabulary() -> Vocabulary:
    """The vocabulary of the package's network, read once."""
    data = json.loads(PATH.read_text(encoding="utf-8"))
    above = [
        Word(name, level, tuple(n for n in _numbers(classes) if n not in UNSAID), id_, zh)
        for level, name, zh, id_, classes in data["words"]
    ]
    words = tuple(Word(each.name, each.level, each.classes, each.id, each.zh, _parent(each, above)) for each in above)
    exact = [Word(name, EXACT, (index,), id_) for index, (name, id_) in enumerate(data["classes"])]
    classes = tuple(Word(each.name, EXACT, each.classes, each.id, parent=_parent(each, above)) for each in exact)
    return Vocabulary(classes, words, {word: _numbers(text) for word, text in data["lexicon"].items()})


def _parent(word: Word, above: Sequence[Word]) -> str | None:
    """The narrowest word of a broader level that covers all classes of this one."""
    wanted = set(word.classes)
    fitting = [
        each
        for each in above
        if each.level is not None and word.level is not None and each.level < word.level and wanted <= set(each.classes)
    ]
    best = min(fitting, key=lambda each: (-(each.level or 0), len(each.classes)), default=None)
    return None if best is None else best.name


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a text such as "0 2-4"."""
    found: list[int] = []
    for part in text.split():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)
