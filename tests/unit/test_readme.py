"""The README says what the code does. `python tests/unit/test_readme.py` writes its generated parts anew."""

import ast
import inspect
import re
import tomllib
from pathlib import Path

import pytest
import typer

import imgtag_pipeline as imgtag
from imgtag_pipeline.cli import app
from imgtag_pipeline.core.schema import LONG
from imgtag_pipeline.options import Options

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
WIDTH = 118
IMAGE_AS = {"url": "URL", "bytes": "bytes", "object": "the OSS object"}


def provider_table():
    """One row for each address: what it is, how it gets the image, how fast, how dear."""
    lines = ["| address | API | image as | calls a second | price |", "| --- | --- | --- | --- | --- |"]
    for found in imgtag.providers.describe():
        facts = found.facts
        image = " or ".join(IMAGE_AS[way] for way in facts.image_as)
        cells = [f"`{found.address}`", f"[{facts.title}]({facts.docs})", image, facts.qps, facts.price]
        if found.address in ("local", "onnx"):
            cells[1] = facts.title
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def commands():
    """The commands with what they take, as the command line itself knows them."""
    return typer.main.get_command(app).commands


def help_text():
    """All commands and options with their meaning, the same whatever terminal or version shows them."""
    lines, shown = [], set()
    for name, command in commands().items():
        words = [one.metavar or one.name.upper() for one in command.params if one.param_type_name == "argument"]
        meaning = inspect.cleandoc(command.help).splitlines()[0]
        lines += ["", f"{' '.join(['imgtag', name, *words])}    {meaning}"]
        options = [one for one in command.params if one.param_type_name == "option"]
        known = [name_of(one) for one in options if option_lines(one)[0] in shown]
        for one in options:
            if name_of(one) not in known:
                lines += option_lines(one)
        if known:
            lines += wrapped("  as above", known)
        shown.update(option_lines(one)[0] for one in options)
    return "```\n" + "\n".join(lines[1:]) + "\n```"


def name_of(option):
    return max(option.opts, key=len)


def option_lines(option):
    has_default = option.default is not None and option.default is not False and option.default != ()
    default = f" [default: {option.default}]" if has_default else ""
    return wrapped(f"  {name_of(option)}", f"{option.help}{' [required]' if option.required else default}".split())


def wrapped(head, words):
    lines, line = [], f"{head:<20}"
    for word in words:
        if len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = " " * 20
        line += f" {word}"
    return [*lines, line]


GENERATED = {"providers": provider_table, "help": help_text}


def written(text, name):
    return re.search(rf"<!-- {name} -->\n(.*?)\n?<!-- /{name} -->", text, re.DOTALL)[1]


def blocks(language):
    """The fenced blocks of a language; an even part of the text lies between fences, an odd one inside of them."""
    inside = re.split(r"^```", README.read_text(encoding="utf-8"), flags=re.MULTILINE)[1::2]
    return [body for kind, _, body in (block.partition("\n") for block in inside) if kind == language]


@pytest.mark.parametrize("name", GENERATED)
def test_the_generated_parts_are_those_of_the_code(name):
    """Provider table and command line; `python tests/unit/test_readme.py` brings them up to date."""
    assert written(README.read_text(encoding="utf-8"), name) == GENERATED[name]()


def test_all_python_is_python():
    """Each block compiles."""
    assert len(blocks("python")) >= 3
    for block in blocks("python"):
        ast.parse(block)


def test_the_words_in_python_exist():
    """Every keyword that an example gives to a verb is an option or an argument of it."""
    verbs = {"label": imgtag.label, "plan": imgtag.plan, "enrich": imgtag.enrich, "alabel": imgtag.alabel}
    seen = set()
    for node in (node for block in blocks("python") for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in verbs:
            taken = inspect.signature(verbs[node.func.attr]).parameters
            seen |= {word.arg for word in node.keywords}
            assert {word.arg for word in node.keywords if word.arg} <= set(taken)
    assert {"provider", "checkpoint", "budget"} <= seen


def test_the_words_in_text_exist():
    """`name=` in the text is an option."""
    names = set(re.findall(r"`([a-z_]+)=[^`]*`", README.read_text(encoding="utf-8")))
    assert names <= set(inspect.signature(Options).parameters) | {"credentials"}


def test_the_commands_exist_with_their_options():
    """Every `imgtag COMMAND --option` in a shell block or in the text is one that the command line takes."""
    text = README.read_text(encoding="utf-8")
    shell = "\n".join([*blocks(""), *re.findall(r"`(imgtag [^`]+)`", text)]).replace("\\\n", " ")
    calls = re.findall(r"\bimgtag (\w+)([^\n#&]*)", shell)
    assert {"demo", "label", "plan", "status"} <= {command for command, _ in calls}
    for command, rest in calls:
        taken = {name for one in commands()[command].params for name in one.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= taken | {"--help"}, command


def test_the_long_tables_columns_are_listed():
    """In their order."""
    text = re.sub(r"\s+", " ", README.read_text(encoding="utf-8"))
    assert ", ".join(LONG.names) in text


def test_the_extras_and_links_exist():
    """What `pip install` names is in pyproject, and files that are linked are there."""
    text = README.read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {name for group in re.findall(r"(?:imgtag_pipeline|\.)\[([a-z,]+)\]", text) for name in group.split(",")}
    assert named <= set(extras)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert (ROOT / target).exists()


def test_the_command_line_knows_every_option():
    """What Python can be told, the command line can be told with the same word, but for objects and a few habits."""
    taken = {name.removeprefix("--").replace("-", "_") for one in commands()["label"].params for name in one.opts}
    objects = {"policy", "breaker", "storage_options", "errors", "progress", "grace", "stop", "observer", "read_ahead"}
    assert set(inspect.signature(Options).parameters) - taken <= objects


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    for name, make in GENERATED.items():
        new = f"<!-- {name} -->\n{make()}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->\n.*?<!-- /{name} -->", lambda _, new=new: new, text, flags=re.DOTALL)
    README.write_text(text, encoding="utf-8")
