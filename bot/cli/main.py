"""The command line: `python -m bot COMMAND`; `--help` lists the commands.

Exit codes: 0 a clean end, 1 a failure while running, 2 wrong arguments, 78 the bot cannot start as
configured (sysexits' EX_CONFIG), 130 Ctrl+C before a command's end, 141 nobody reads its output.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Final

from bot import __version__
from bot.catalogue.lightning import BEST
from bot.cli import output
from bot.cli.setup.options import KEEP, KEEP_WORDS, add_setup
from bot.config.libraries import pass_on
from bot.engine.confinement.kernel import keep_memory_private
from bot.errors import BotError, EngineError, StartupError
from bot.lab.bench.arguments import add_benchmarks
from bot.machine.program import INSTALLED
from storage.private_files import make_new_files_private

EXIT_FAILURE: Final = 1
EXIT_CONFIG: Final = 78
DEMO_PORT: Final = 8765
EXIT_INTERRUPTED: Final = 130
"""What a shell gives a program that SIGINT (2) ended."""
_FIRST_STEPS: Final = """\
first steps:
  python -m bot demo        see it, without a token, a graphics card or a download
  python -m bot setup       ask for what is missing, up to the first picture
  python -m bot doctor      what this machine still lacks
  python -m bot run         the bot itself, with DISCORD_TOKEN in .env
"""


def _parser() -> argparse.ArgumentParser:
    program = INSTALLED if Path(sys.argv[0]).stem == INSTALLED else "python -m bot"
    parser = argparse.ArgumentParser(
        prog=program,
        description="A Discord bot that draws with Qwen-Image.",
        epilog=_FIRST_STEPS.replace("python -m bot", program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    add_setup(commands)
    commands.add_parser("run", help="run against Discord, with the settings of .env")
    commands.add_parser(
        "start", help="what a container does: run with a token, else the demo on its port"
    )
    demo = commands.add_parser("demo", help="try everything without a token, in the browser")
    demo.add_argument("--once", metavar="PROMPT", help="do one job, save its picture and exit")
    demo.add_argument("--out", metavar="FILE", type=Path, help="where --once saves the picture")
    page = f"port of the page (default {DEMO_PORT})"
    demo.add_argument("--port", type=int, default=DEMO_PORT, help=page)
    demo.add_argument("--no-open", action="store_true", help="do not open the page in a browser")
    demo.add_argument("--data", metavar="DIR", type=Path, help="data folder (default data/demo)")
    backup = commands.add_parser("backup", help="copy the data folder; the bot may run meanwhile")
    target = "a new folder (default BACKUP_DIR/<time>, which is DATA_DIR/backups unless set)"
    backup.add_argument("target", metavar="TARGET", type=Path, nargs="?", help=target)
    backup.add_argument("--images", action="store_true", help="copy the pictures too")
    doctor = commands.add_parser("doctor", help="check the installation; exit code 1 on a problem")
    doctor.add_argument("--json", action="store_true", help="for programs")
    depth = doctor.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_true", help="only what takes a moment")
    depth.add_argument("--full", action="store_true", help="the model's hashes too (minutes)")
    depth.add_argument(
        "--trial",
        action="store_true",
        help="will this card do it? Two minutes, nothing is downloaded, no token is needed",
    )
    depth.add_argument("--only", metavar="CHECK,…", default="", help="these checks alone")
    tried = "the model that --trial is of, by its name or a part of it (default: IMAGE_MODEL_NAME)"
    doctor.add_argument("--model", metavar="MODEL", help=tried)
    download = commands.add_parser(
        "download", help="get the models' files now; goes on where it ended"
    )
    model = "one model, by its name or a part of it (default: all that are offered)"
    download.add_argument("model", metavar="MODEL", nargs="?", help=model)
    kind = download.add_mutually_exclusive_group()
    kind.add_argument(KEEP, action="store_true", help=KEEP_WORDS)
    # What is done anyway now; scripts may still have it.
    kind.add_argument("--drop", action="store_true", help=argparse.SUPPRESS)
    kind.add_argument(
        "--lightning",
        metavar="STEPS",
        type=int,
        nargs="?",
        const=BEST,
        choices=(8, 4),
        help="get the LoRA with which the quality fast takes 8 steps (or 4) instead; without a "
        "number the most that the model has a file for",
    )
    smoke = commands.add_parser("smoke", help="draw a picture with the settings of .env")
    smoke.add_argument("--model", metavar="MODEL", help=model)
    smoke.add_argument("--full", action="store_true", help="three pictures and a contact sheet")
    where = "where the pictures go (default test-output)"
    smoke.add_argument("--out", metavar="DIR", type=Path, default=Path("test-output"), help=where)
    add_benchmarks(commands)
    commands.add_parser("settings", help="print every setting with its default (.env.example)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code."""
    try:
        try:
            return _run_command(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not output.reader_gone():
            raise
        output.discard_output()
        return output.CODE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _run_command(arguments: list[str] | None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    keep_memory_private()  # The token is about to be in it.
    make_new_files_private()
    # What it says of a line of .env, `idle_lines` says better, and once.
    logging.getLogger("dotenv.main").setLevel(logging.ERROR)
    pass_on()
    try:
        match options.command:
            case "settings":
                from bot.config.env_example import env_example  # noqa: PLC0415 - each command loads its own

                sys.stdout.write(env_example())
            case "run":
                asyncio.run(_run())
            case "start":
                _start()
            case "setup":
                from bot.cli.setup.run import setup  # noqa: PLC0415

                return 0 if setup(options) else EXIT_FAILURE
            case "backup":
                _back_up(options.target, images=options.images)
            case "doctor":
                return _examine(options)
            case "download":
                return _download(options.model, options.lightning, drop=not options.keep)
            case "smoke":
                return asyncio.run(_smoke(options.model, options.out, full=options.full))
            case "bench":
                return _bench(options)
            case _:
                from bot.cli.demo import demo  # noqa: PLC0415

                where = (options.out, options.port, options.data)
                asyncio.run(demo(options.once, *where, browser=not options.no_open))
    except StartupError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_CONFIG
    except EngineError as error:
        sys.stderr.write(f"{error.spoken() or error.detail}\n")
        return EXIT_FAILURE
    except BotError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILURE
    return 0


def _start() -> None:
    from bot.cli.demo import demo  # noqa: PLC0415
    from bot.config.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    if settings.discord_token or settings.discord_api_url:
        asyncio.run(_run())
        return
    # The port is published on the host's loopback alone (compose.yaml).
    everywhere = "0.0.0.0"  # noqa: S104
    asyncio.run(demo(None, None, DEMO_PORT, None, browser=False, listen=everywhere))


def _bench(options: argparse.Namespace) -> int:
    match options.bench:
        case "engine":
            from bot.lab.step.options import run  # noqa: PLC0415

            return min(1, run(options))
        case "picture":
            from bot.lab.bench.picture import run  # noqa: PLC0415

            return min(1, run(options))
        case "write":
            from bot.lab.bench.writing import run  # noqa: PLC0415

            return min(1, run(options))
        case "confined":
            from bot.lab.bench.confined import run  # noqa: PLC0415

            return min(1, run(options))
        case "together":
            from bot.lab.bench.together import bench_together  # noqa: PLC0415

            figures = asyncio.run(bench_together(options))
        case "scale":
            from bot.lab.bench.scale import bench_scale  # noqa: PLC0415

            figures = asyncio.run(bench_scale(options))
        case "http":
            if options.load is None:
                from bot.lab.bench.http import bench_http  # noqa: PLC0415

                figures = asyncio.run(bench_http(options.requests))
            else:
                from bot.lab.bench.http_load import bench_http_load  # noqa: PLC0415

                figures = asyncio.run(bench_http_load(options.load))
        case "storm" | "soak":
            from bot.lab.bench.storm import run  # noqa: PLC0415

            return run(options)
        case "cost":
            from bot.lab.bench.cost import bench_cost  # noqa: PLC0415

            figures = asyncio.run(bench_cost(options))
        case "burst":
            from bot.lab.bench.burst import bench_burst  # noqa: PLC0415

            figures = asyncio.run(bench_burst(options))
        case "simulate":
            from bot.lab.bench.simulate import bench_simulate  # noqa: PLC0415

            figures = bench_simulate(options)
        case "tiny" if options.edits or options.language:
            from bot.lab.bench.tiny_edits import bench_edits, bench_language  # noqa: PLC0415

            figures = asyncio.run(bench_edits(options)) if options.edits else {}
            figures |= asyncio.run(bench_language(options)) if options.language else {}
        case "tiny":
            from bot.lab.bench.tiny import bench_tiny  # noqa: PLC0415

            figures = asyncio.run(bench_tiny(options))
        case _:
            from bot.lab.bench.response import bench_response  # noqa: PLC0415

            figures = asyncio.run(bench_response(options.interactions, buttons=options.buttons))
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    return 0


async def _run() -> None:
    from bot.app.app import App  # noqa: PLC0415
    from bot.app.signals import handle_signals  # noqa: PLC0415
    from bot.client.login import require_token  # noqa: PLC0415
    from bot.config.names import idle_lines  # noqa: PLC0415
    from bot.config.proxy import proxy_secrets  # noqa: PLC0415
    from bot.config.settings import load_settings  # noqa: PLC0415
    from bot.logs import set_up_logging  # noqa: PLC0415

    settings = load_settings()
    require_token(settings)  # before a folder for the log is made
    secret = settings.discord_token.get_secret_value() if settings.discord_token else ""
    set_up_logging(
        settings.log_level,
        secrets=(secret, *proxy_secrets()),
        prompts=settings.log_prompts,
        folder=settings.log_folder,
    )
    for line in idle_lines():
        logging.getLogger(__name__).warning("%s", line)
    app = App(settings)
    handle_signals(asyncio.get_running_loop(), app.stop)
    await app.run()


async def _smoke(model: str | None, folder: Path, *, full: bool) -> int:
    from bot.cli.chosen import chosen_models  # noqa: PLC0415
    from bot.cli.smoke import smoke  # noqa: PLC0415
    from bot.config.proxy import proxy_secrets  # noqa: PLC0415
    from bot.config.settings import load_settings  # noqa: PLC0415
    from bot.logs import set_up_logging  # noqa: PLC0415

    settings = load_settings()
    set_up_logging("WARNING", secrets=proxy_secrets())
    models = chosen_models(settings, model)

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    drawn = await smoke(settings, models, folder, say, full=full)
    return 0 if drawn else EXIT_FAILURE


def _back_up(target: Path | None, *, images: bool) -> None:
    from bot.archive.backup import back_up, report  # noqa: PLC0415
    from bot.config.settings import load_settings  # noqa: PLC0415

    sys.stdout.write(report(back_up(load_settings(), target, images=images), images=images))


def _download(model: str | None, lightning: int | None, *, drop: bool) -> int:
    from bot.catalogue.lightning import SERIES  # noqa: PLC0415
    from bot.cli.chosen import chosen_models  # noqa: PLC0415
    from bot.cli.download import download_lightning, download_models  # noqa: PLC0415
    from bot.config.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    models = chosen_models(settings, model)
    if lightning is not None:
        spec = next((spec for spec in models if spec.name in SERIES), models[0])
        sys.stdout.write(f"{download_lightning(settings, spec, lightning)}\n")
        return 0
    return 0 if download_models(settings, models, drop=drop) else EXIT_FAILURE


def _examine(options: argparse.Namespace) -> int:
    if options.trial:
        from bot.cli.chosen import chosen_models  # noqa: PLC0415
        from bot.config.settings import load_settings  # noqa: PLC0415
        from bot.lab.trial.run import trial  # noqa: PLC0415

        settings = load_settings()
        model = settings.model
        if options.model is not None:
            (model,) = chosen_models(settings, options.model)
        return trial(settings, model, as_json=options.json)
    if options.model is not None:
        raise BotError("--model is of use together with --trial only.")
    from bot.doctor import finding, run  # noqa: PLC0415

    found = run.examine(quick=options.quick, full=options.full, only=options.only)
    findings = list(found) if options.json else finding.say(found)
    if options.json:
        sys.stdout.write(finding.as_json(findings))
    code = EXIT_FAILURE if any(f.level is finding.Level.ERROR for f in findings) else 0
    if run.hanging():
        sys.stdout.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(main())
