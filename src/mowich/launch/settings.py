"""Settings of an engine as arguments of a program: `facts/launch_settings.yaml` as entries of its table, and the way
there and back."""

from __future__ import annotations

from mowich.launch.arguments import FieldValue, FieldValues, PlanArgument
from mowich.plans.launch_settings import SETTING_NAMES, check_settings, setting_arguments

_NUMBER = "number"


def _split(spec: str) -> tuple[str, FieldValue]:
    """ "name=value" -> (name, value); (name, True) for an argument that stands by itself."""
    name, equals, value = spec.partition("=")
    return name, value if equals else True


def _field(setting: str, name: str) -> str:
    """The name of the field that holds one argument of a setting."""
    return f"{setting} {name}"


def settings_arguments(engine: str) -> tuple[PlanArgument, ...]:
    """Entries of the table of a program for the settings that it has."""
    out: list[PlanArgument] = []
    for setting, own in setting_arguments(engine).items():
        words: dict[str, dict[FieldValue, FieldValue]] = {}
        for spec in (*own.get("words", {}).values(), *own.get("read", {})):
            name, value = _split(spec)
            words.setdefault(name, {})[value] = value
            if value is True:
                words[name][False] = False
        out += [PlanArgument(field=_field(setting, n), name=n, words=w, is_open=True) for n, w in words.items()]
        if "beside" in own:
            alone: dict[FieldValue, FieldValue] = {True: True, False: False}
            out.append(
                PlanArgument(field=_field(setting, own["beside"]), name=own["beside"], words=alone, is_open=True)
            )
        if "number" in own:
            absent = own.get("absent")
            out.append(
                PlanArgument(
                    field=_field(setting, _NUMBER), name=own["number"], absent=absent, is_whole=setting != "memory"
                )
            )
    return tuple(out)


def settings_out(engine: str, fields: FieldValues) -> FieldValues:
    """Fields of a plan with its settings as fields of single arguments. Raises UserError for a setting that the engine
    does not have."""
    out = {name: value for name, value in fields.items() if name not in SETTING_NAMES}
    stated = {name: fields[name] for name in SETTING_NAMES if name in fields}
    check_settings(stated, engine)
    for setting, value in stated.items():
        spec = setting_arguments(engine)[setting].get("words", {}).get(str(value))
        name, written = (_NUMBER, value) if spec is None else _split(spec)
        if (beside := setting_arguments(engine)[setting].get("beside")) is not None:
            out[_field(setting, beside)] = True
        if beside is None or value != 0:
            out[_field(setting, name)] = written
    return out


def settings_in(engine: str, own: FieldValues) -> FieldValues:
    """The way back. Graphs of a number of tokens are what their number says, where they are on."""
    out = {name: value for name, value in own.items() if " " not in name}
    for setting, table in setting_arguments(engine).items():
        meant = {_split(spec): word for word, spec in table.get("words", {}).items()}
        meant |= {_split(spec): word for spec, word in table.get("read", {}).items()}
        said = [w for (name, v), w in meant.items() if own.get(_field(setting, name)) == v]
        number = own.get(_field(setting, _NUMBER))
        quiet = [word for word in said if word != "piecewise"]
        if quiet:
            out[setting] = quiet[0]
        elif number is not None:
            out[setting] = number
        elif said:
            out[setting] = said[0]
        elif "beside" in table and own.get(_field(setting, table["beside"])):
            out[setting] = 0
    return out
