"""YAML that people write: values alone, without the aliases by which a few lines become gigabytes."""

from __future__ import annotations

from typing import Any

import yaml


class _PlainLoader(yaml.SafeLoader):
    """Knows neither object tags nor aliases, and takes no key twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            name = self.peek_event().anchor  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"aliases such as *{name} are not taken; write out what it stands for")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        found = super().construct_mapping(node, deep)
        if len(found) < len(node.value):
            keys = [key.value for key, _ in node.value]
            twice = next((key for key in keys if keys.count(key) > 1), keys[0])
            raise yaml.YAMLError(f"{twice} stands there twice")
        return found


def load_yaml(text: str) -> Any:
    """What a YAML text says.

    Raises:
        yaml.YAMLError: it is no YAML, holds an alias, a tag or a key twice, is nested too deep, or a number in it
            is too long.
    """
    try:
        return yaml.load(text, _PlainLoader)
    except (RecursionError, ValueError) as error:
        raise yaml.YAMLError(str(error)) from error
