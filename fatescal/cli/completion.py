"""The verb `completion`: scripts that let a shell complete verbs, options and files."""

from __future__ import annotations

import argparse

BASH = """\
_fatescal() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} verb=${{COMP_WORDS[1]}} options
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W "{verbs}" -- "$word") $(compgen -f -- "$word")); return
  fi
  case $verb in
{cases}
  esac
  if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "$options" -- "$word"))
  else COMPREPLY=($(compgen -f -- "$word")); fi
}}
complete -o filenames -F _fatescal fatescal"""


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """Return the completion script of a shell: bash, zsh or fish."""
    verbs = _verbs(parser)
    if shell == "fish":
        return _fish(verbs, _helps(parser))
    cases = "\n".join(f'    {verb}) options="{" ".join(options)}";;' for verb, options in verbs.items())
    bash = BASH.format(verbs=" ".join(verbs), cases=cases)
    return bash if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{bash}"


def _fish(verbs: dict[str, list[str]], helps: dict[str, str]) -> str:
    lines = [f"complete -c fatescal -n __fish_use_subcommand -a {v} -d '{helps[v]}'" for v in verbs]
    lines += [
        f"complete -c fatescal -n '__fish_seen_subcommand_from {verb}' -l {option.removeprefix('--')}"
        for verb, options in verbs.items()
        for option in options
        if option.startswith("--")
    ]
    return "\n".join(lines)


def _subparsers(parser: argparse.ArgumentParser) -> argparse._SubParsersAction:
    return next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))


def _helps(parser: argparse.ArgumentParser) -> dict[str, str]:
    choices = _subparsers(parser)._choices_actions
    return {choice.dest: str(choice.help).replace("'", "") for choice in choices}


def _verbs(parser: argparse.ArgumentParser) -> dict[str, list[str]]:
    """Return the options of each verb."""
    return {
        verb: [option for action in sub._actions for option in action.option_strings]
        for verb, sub in _subparsers(parser).choices.items()
    }
