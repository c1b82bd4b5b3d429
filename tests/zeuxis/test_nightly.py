"""What docs/nightly.md tells users to install is valid: units, crontab, CronJob and alarms are what zeuxis takes."""

import configparser
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from zeuxis.pipelines.events import FAMILIES, PREFIX

TEXT = (Path(__file__).parents[2] / "docs" / "nightly.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def parses(words: list[str]) -> None:
    from zeuxis.cli import app

    commands: Any = typer.main.get_command(app)
    commands.commands[words[0]].make_context(words[0], words[1:])


def inis() -> dict[str, configparser.ConfigParser]:
    found = {}
    for text in (text for language, text in BLOCKS if language == "ini"):
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read_string(text)
        found["timer" if "Timer" in parser else "service"] = parser
    return found


def yamls() -> list[Any]:
    return [yaml.safe_load(text) for language, text in BLOCKS if language == "yaml"]


def test_the_service_runs_a_command_that_parses_and_takes_rejects_as_success():
    service = inis()["service"]["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program.endswith("/zeuxis")
    parses(words)
    assert service["Type"] == "oneshot"
    assert service["SuccessExitStatus"] == "3"


def test_the_timer_fires_at_night_and_after_a_night_that_was_missed():
    timer = inis()["timer"]
    assert re.fullmatch(r"\*-\*-\* \d\d:\d\d", timer["Timer"]["OnCalendar"])
    assert timer["Timer"]["Persistent"] == "true"
    assert timer["Install"]["WantedBy"] == "timers.target"


def test_the_crontab_runs_commands_that_parse():
    lines = [line for _, text in BLOCKS for line in text.splitlines() if re.match(r"[\d*]+ [\d*]+ ", line)]
    assert len(lines) == 2
    for line in lines:
        fields, command = line.split("  ", 1)
        assert len(fields.split()) == 5
        assert "%" not in command, "which cron takes for a line break"
        words = shlex.split(command.split("&&")[1].split("2>>")[0])
        assert words[0].endswith("/zeuxis")
        parses(words[1:])


def test_the_cron_job_is_complete():
    (job,) = (each for each in yamls() if each.get("kind") == "CronJob")
    assert job["apiVersion"] == "batch/v1"
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    spec = job["spec"]["jobTemplate"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["zeuxis"]
    parses(container["args"])
    assert pod["restartPolicy"] == "Never", "which a pod failure policy needs"
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [2, 3]
    assert spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["containerName"] == container["name"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    for mount in container["volumeMounts"]:
        assert mount["mountPath"].startswith(container["workingDir"])


def test_alarms_and_the_table_name_metrics_that_exist():
    (alarms,) = (each for each in yamls() if "groups" in each)
    rules = [rule for group in alarms["groups"] for rule in group["rules"]]
    assert len(rules) == 4
    named = set()
    for rule in rules:
        assert rule.keys() == {"alert", "expr", "labels", "annotations"}
        named |= set(re.findall(rf"{PREFIX}(\w+)", rule["expr"]))
    assert named <= set(FAMILIES)
    assert set(re.findall(rf"^\| `{PREFIX}(\w+)`", TEXT, re.MULTILINE)) == set(FAMILIES)


@pytest.mark.parametrize("code", ["0", "1", "2", "3", "130"])
def test_every_exit_code_is_explained(code):
    assert re.search(rf"^\| {code} +\| \w", TEXT, re.MULTILINE)
