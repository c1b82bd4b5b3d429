"""YAML that people write: values alone, without the aliases by which a few lines become gigabytes."""

from __future__ import annotations

from typing import Any

import yaml


class _PlainLoader(yaml.SafeLoader):
    """Knows neither object tags nor aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            name = self.peek_event().anchor  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"aliases such as *{name} are not taken; write out what it stands for")
        return super().compose_node(parent, index)


def load_yaml(text: str) -> Any:
    """What a YAML text says.

    Raises:
        yaml.YAMLError: it is no YAML, holds an alias or a tag, is nested too deep, or a number in it is too long.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except (RecursionError, ValueError) as error:
        raise yaml.YAMLError(str(error)) from error
