"""The demo's photographs: four small ones that anybody may use; `NOTICE` names who took them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("pictures")


def write_photographs(folder: Path) -> list[Path]:
    """Copies of the photographs in `folder`, which is made; their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for photograph in sorted(FOLDER.glob("*.jpg")):
        path = folder / photograph.name
        path.write_bytes(photograph.read_bytes())
        paths.append(path)
    return paths
