"""`kerasllm finetune`: config in, trained, evaluated and exported model out."""

import click

from kerasllm.cli.options import ConfigCommand, overrides_option
from kerasllm.config.loading import load_config

__all__ = ["command"]


@click.command(cls=ConfigCommand)
@click.argument("config")
@overrides_option
@click.option(
    "--dry-run", is_flag=True, help="Load, tokenize, build, run one step, print the plan; write nothing."
)
@click.option("--resume", is_flag=True, help="Go on in the run directory of the config (`output_dir`).")
def command(config: str, overrides: tuple[str, ...], dry_run: bool, resume: bool) -> None:
    """Train a model as CONFIG says, evaluate it and export it.

    CONFIG is a YAML file, the name of a packaged config (`kerasllm configs list`), or a run directory.

    \b
      kerasllm finetune text_classification/sentiment_minilm
      kerasllm finetune my_data.yaml -s training.epochs=5 -s export.path=none
    """
    if dry_run and resume:
        raise click.UsageError("`--dry-run` and `--resume` exclude each other.")
    checked = load_config(config, overrides, require_data=True)

    from kerasllm.api import finetune_from_config
    from kerasllm.cli.screens import show_adapted, show_plan, show_run, summarize_run

    result = finetune_from_config(checked, resume=resume, dry_run=dry_run)
    from kerasllm.models.presets import Preset
    from kerasllm.training.plan import Plan

    if isinstance(result, Plan):
        show_plan(result)
    elif isinstance(result, Preset):
        show_adapted(result)
    else:
        show_run(summarize_run(result))
