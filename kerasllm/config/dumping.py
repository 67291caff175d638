"""A config as YAML that can be run again, and the fields as a reference."""

import re
from typing import Any, get_type_hints

import yaml
from pydantic import BaseModel

from kerasllm.config.fields import describe, section_of
from kerasllm.config.schema import RunConfig

__all__ = ["describe_fields", "dump_config"]


class _Dumper(yaml.SafeDumper):
    """Quotes what a reader of YAML, ours or another, could take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    if not text.isprintable():
        style = '"'  # escapes; PyYAML's other styles lose U+0085 and other line ends
    elif text.lower() == "none" or re.fullmatch(r"[-+]?[\d.]+([eE][-+]?\d+)?", text):
        style = "'"
    else:
        style = None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def dump_config(config: RunConfig, *, comment: str = "") -> str:
    """Writes every field of a config as YAML; `load_config` reads the same config from it.

    Args:
        config: The config, usually after `resolve`.
        comment: Text for the comment lines at the top. Defaults to none.

    Returns:
        YAML text.
    """
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return head + yaml.dump(
        config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


def describe_fields(model: type[BaseModel] = RunConfig, *, indent: str = "") -> str:
    """Writes a reference of all fields: name, default, what it takes, what it is for."""
    lines = []
    for name, annotation in get_type_hints(model, include_extras=True).items():
        field = model.model_fields.get(name)
        if field is None:
            continue
        lines.append(f"{indent}# {field.description}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lines += [f"{indent}{name}:", describe_fields(field.annotation, indent=indent + "  ")]
            continue
        default = "" if field.is_required() else _plain(field.default)
        lines.append(f"{indent}{name}: {default}".rstrip() + f"  # {describe(annotation)}")
        if (section := section_of(annotation)) is not None:  # off unless one of its fields is set
            lines += [f"{indent}# {name}:", describe_fields(section, indent=indent + "#   ")]
    return "\n".join(lines)


def _plain(value: Any) -> str:
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")
