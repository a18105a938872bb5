"""`turnout emulate`: one emulated backend as a stand-alone, OpenAI-compatible server."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from rich.table import Table

from app.cli.console import stdout
from app.cli.loading import CHECK_FAILED, finite, json_option
from app.config.load import shipped_sheets
from app.emulate import faults_file
from app.emulate.catalog import MOST_CHIPS, choose, listing
from app.emulate.server import Options, run
from app.errors import ConfigError
from backends.datasheet import KV_BYTES, WEIGHT_BYTES, Datasheets
from backends.errors import BackendConfigError, DoesNotFit
from backends.types import EmulationSpec

Callback = Callable[[click.Context, click.Parameter, str | None], str | None]


def _one_of(known: Iterable[str]) -> Callback:
    """A word of a closed set; anything else is a usage error that names the nearest."""

    def check(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
        if value is None or value in known:
            return value
        near = difflib.get_close_matches(value, list(known), n=1, cutoff=0.4)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise click.BadParameter(f"there is no '{value}'{hint} (there are: {', '.join(known)})", context, option)

    return check


def _named(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if not all(value.strip() for value in values):
        raise click.BadParameter("a model needs a name", context, option)
    return values


@click.command()
@click.argument("substrate", required=False)
@click.option("--model", help="A model with a datasheet (config/models).")
@click.option("--chips", type=click.IntRange(1, MOST_CHIPS), help="How many chips; the smallest group that fits.")
@click.option(
    "--precision",
    callback=_one_of(WEIGHT_BYTES),
    help="Of the weights; what the model is published in, else fp8, int8 or bf16.",
)
@click.option("--kv-precision", callback=_one_of(KV_BYTES), help="Of the KV cache; bf16.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 picks a free one.")
@click.option(
    "--time-scale",
    type=click.FloatRange(0.001, 10_000),
    default=1.0,
    callback=finite,
    show_default=True,
    help="Times faster.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the noise on step times.")
@click.option("--max-num-seqs", type=click.IntRange(1), help="Sequences that decode together, below the chip's own.")
@click.option(
    "--served-model-name", "names", multiple=True, callback=_named, help="What clients call the model; may be repeated."
)
@click.option("--faults", type=click.Path(dir_okay=False, path_type=Path), help="Misbehave as this file says.")
@click.option("--admin-token", envvar="TURNOUT_ADMIN_TOKEN", help="For /admin/faults; without it, loopback only.")
@click.option("--list", "list_all", is_flag=True, help="Print every chip and model there are figures for.")
@json_option
def command(
    substrate: str | None,
    model: str | None,
    chips: int | None,
    precision: str | None,
    kv_precision: str | None,
    host: str,
    port: int,
    time_scale: float,
    seed: int,
    max_num_seqs: int | None,
    names: tuple[str, ...],
    faults: Path | None,
    admin_token: str | None,
    list_all: bool,
    as_json: bool,
) -> None:
    """Serve a model on emulated silicon until SIGTERM.

    SUBSTRATE is a chip (h100, tpu_v6e, ...) or a kind (gpu, tpu, ...), which stands for its first chip.
    """
    sheets = shipped_sheets()
    if list_all:
        _list(sheets, as_json)
        return
    if substrate is None or model is None:
        raise click.UsageError("SUBSTRATE and --model are needed (--list shows them)")
    try:
        choice = choose(sheets, substrate, model, chips, precision, kv_precision)
        misbehaviour = faults_file.FaultsFile() if faults is None else faults_file.load(faults)
        options = Options(
            choice=choice,
            context_tokens=sheets.model(model).context_tokens,
            names=names or (model,),
            host=host,
            port=port,
            time_scale=time_scale,
            emulation=EmulationSpec(seed=seed, max_sequences=max_num_seqs),
            faults=misbehaviour,
            admin_token=admin_token,
        )
        sys.exit(run(options, sheets, as_json=as_json))
    except DoesNotFit as error:
        print(error, file=sys.stderr)
        sys.exit(CHECK_FAILED)
    except BackendConfigError as error:
        raise click.UsageError(str(error)) from None
    except ConfigError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        sys.exit(CHECK_FAILED)


def _list(sheets: Datasheets, as_json: bool) -> None:
    found = listing(sheets)
    if as_json:
        print(json.dumps(found))
        return
    chips = Table("chip", "substrate", "title", "GB", "precisions", "calibration", "not stated by any source", box=None)
    for row in found["substrates"]:
        memory = "?" if row["memory_gb"] is None else f"{row['memory_gb']:g}"
        calibration = f"{row['calibration']}: {row['calibration_note']}"
        cells = (memory, ", ".join(row["precisions"]), calibration, ", ".join(row["assumptions"]) or "-")
        chips.add_row(row["chip"], row["substrate"], row["title"], *cells)
    models = Table("model", "title", "parameters", "context", "source", box=None)
    for row in found["models"]:
        numbers = (f"{row['parameters'] / 1e9:.1f} B", f"{row['context_tokens']:,}")
        models.add_row(row["model"], row["title"], *numbers, row["source"])
    console = stdout()
    console.print(chips)
    console.print()
    console.print(models)
