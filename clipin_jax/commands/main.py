"""The `clipin` command: one line per verb, each calls one library function."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from clipin_jax.config import (
    find_config,
    list_configs,
    list_studies,
    load_config,
    missing_key,
)
from clipin_jax.errors import DONE, FAILED, ClipinError

TRAIN = """
examples:
  clipin train quickstart
  clipin train quickstart:clipin --workdir runs/mine optim.learning_rate=1e-3
  clipin train runs/mine                          # goes on with that run

Options follow the colon; KEY=VALUE sets any key of the config. The same command goes on
where it was stopped. Exit codes: 0 done, 75 stopped and saved, 1 failed.

configs:
"""
EVALUATE = """
examples:
  clipin evaluate runs/mine                       # what its config says
  clipin evaluate runs/mine --step 500 --json scores.json
  clipin evaluate runs/mine --suite core --data /path/to/data
  clipin evaluate runs/mine --suite full --data /path/to/data --only cifar10,retrieval

A suite is core (minutes), paper (CLIPin's protocols), full (hours), or a .py file of
one's own. It takes the data sets that it finds and says what it leaves out.
"""
CAPTION = "example: clipin caption runs/coca one.jpg two.png --strategy nucleus"
EXPLAIN = """
examples:
  clipin explain runs/clip runs/clip_clipin --image a.png b.png --text "a red star"
  clipin explain runs/albef --image a.png --text "a red star" --words --method matching
"""
REPORT = "example: clipin report runs/clip runs/clip_clipin --output comparison.html"
STUDY = """
examples:
  clipin study looseness --jobs 2
  clipin study my_study.py:seeds=3 --workdir runs/studies/mine
  clipin study results.json                       # writes its page, runs nothing

A study is a grid of configs and seeds; `clipin_jax/study/grid.py` says how a file of
one is written. The same command goes on where it was stopped. Exit codes: 0 done, 75
stopped and saved, 1 when runs failed.

studies:
"""
FORMATS = ("array_record", "webdataset")
DATA = """
examples:
  clipin data check clip:data=/path/to/folder --output check.html
  clipin data bench clip:data=/path/to/folder --step-ms 180
  clipin data convert clip:data=/path/to/folder shards --to webdataset

Each takes KEY=VALUE too, as train does. Exit codes: 0 well or done, 75 stopped and to
be started again, 1 failed, or data that training would stop at.
"""


def output_file(name: str) -> Path:
    """A path that can be written, known before hours are spent on its content."""
    if Path(name).is_dir() or not Path(name).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{name} is no file in a folder that exists")
    return Path(name)


def counts(text: str) -> tuple[int, ...]:
    """Numbers with commas between, as "0,1,2"."""
    return tuple(int(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Words with commas between, as "cifar10,retrieval"."""
    return tuple(filter(None, (part.strip() for part in text.split(","))))


def add_data(data: argparse.ArgumentParser) -> None:
    """The verbs of `clipin data`."""
    verbs = data.add_subparsers(dest="action", required=True, metavar="VERB")

    def add(verb: str, purpose: str) -> argparse.ArgumentParser:
        parser = verbs.add_parser(verb, help=purpose, description=purpose)
        parser.add_argument("config", help="NAME[:OPTIONS], a .py file, or a run")
        return parser

    check = add("check", "look at the training data: is it what it should be?")
    check.add_argument(
        "--records", type=int, default=10_000, help="how many; default: 10000, 0: all"
    )
    check.add_argument(
        "--output", type=output_file, help="write an HTML page with more"
    )
    check.add_argument("--json", type=output_file, help="write the figures as JSON")
    bench = add("bench", "time the input: is it fast enough for the device?")
    bench.add_argument("--step-ms", type=float, help="what a training step takes")
    bench.add_argument("--seconds", type=float, default=3, help="each; default: 3")
    bench.add_argument("--workers", type=counts, help="processes to try, as 0,1,2")
    bench.add_argument("--json", action="store_true", help="the last line is JSON")
    convert = add("convert", "write the training data anew, as sharded files")
    convert.add_argument("out", help="a folder")
    convert.add_argument("--to", choices=FORMATS, default=FORMATS[0])
    convert.add_argument("--records-per-file", type=int, default=10_000, metavar="N")
    convert.add_argument("--overwrite", action="store_true", help="begin anew")
    for parser in (check, bench, convert):
        parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; --help and mistakes in it end the program."""
    top = argparse.ArgumentParser(
        "clipin", description="Image-text pretraining in JAX."
    )
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")

    def add(verb: str, purpose: str, epilog: str) -> argparse.ArgumentParser:
        style = argparse.RawDescriptionHelpFormatter
        return verbs.add_parser(
            verb,
            help=purpose,
            description=purpose,
            epilog=epilog,
            formatter_class=style,
        )

    known = "\n".join(f"  {name:<14}{doc}" for name, doc in list_configs().items())
    train = add("train", "train a model, or go on with a run", TRAIN + known)
    train.add_argument("config", help="NAME[:OPTIONS], a .py file, or a run's folder")
    train.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    train.add_argument("--workdir", type=Path, help="default: runs/NAME")
    evaluate = add("evaluate", "score a run on its evaluation data", EVALUATE)
    evaluate.add_argument("run", type=Path, help="a run's folder")
    evaluate.add_argument("--step", type=int, help="default: the newest checkpoint")
    evaluate.add_argument(
        "--output",
        "--json",
        type=output_file,
        help="default: eval/STEP.json in the run, or eval/STEP-SUITE.json",
    )
    evaluate.add_argument("--suite", help="core, paper, full, or a .py file")
    evaluate.add_argument("--data", default="", help="a suite's folder of data sets")
    evaluate.add_argument(
        "--only", type=names, default=(), help="data sets and protocols of a suite"
    )
    caption = add("caption", "write captions for pictures with a run's model", CAPTION)
    caption.add_argument("run", type=Path, help="a run's folder")
    caption.add_argument("images", type=Path, nargs="+", help="picture files")
    caption.add_argument("--step", type=int, help="default: the newest checkpoint")
    caption.add_argument(
        "--strategy", default="", help="greedy, beam or nucleus; default: the config's"
    )
    caption.add_argument("--json", action="store_true", help="print one JSON list")
    explain = add("explain", "show where models look in pictures for texts", EXPLAIN)
    explain.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    explain.add_argument(
        "--image", type=Path, nargs="+", required=True, help="picture files"
    )
    explain.add_argument("--text", nargs="+", required=True, help="what to look for")
    explain.add_argument(
        "--method", default="contrastive",
        help="contrastive (default), prediction, matching, captioning or pooling",
    )  # fmt: skip
    explain.add_argument("--layer", type=int, help="default: the method's own choice")
    explain.add_argument("--words", action="store_true", help="each word of it too")
    explain.add_argument("--step", type=int, help="default: the newest checkpoint")
    explain.add_argument(
        "--output", type=output_file, default=Path("explanation.png"),
        help="a PNG file; default: explanation.png",
    )  # fmt: skip
    report = add("report", "write runs side by side into one HTML file", REPORT)
    report.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    report.add_argument(
        "--output", type=output_file, help="default: report.html in the first"
    )
    listed = "\n".join(f"  {name:<14}{doc}" for name, doc in list_studies().items())
    study = add(
        "study", "run a grid of configs and write what it shows", STUDY + listed
    )
    study.add_argument("study", help="NAME[:OPTIONS], a .py file, or a results.json")
    study.add_argument("--workdir", type=Path, help="default: runs/studies/NAME")
    study.add_argument("--jobs", type=int, default=1, help="runs at a time; default: 1")
    add_data(add("data", "check, time or convert the training data", DATA))
    add("doctor", "check versions, devices and what they can do", "")

    args, rest = top.parse_known_args(argv)
    # argparse leaves over what stands after an option, and --config.KEY=VALUE.
    args.rest = [x for x in rest if x[:1] != "-" or x.startswith("--config.")]
    if args.rest != rest or (rest and "overrides" not in args):
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def run(args: argparse.Namespace) -> int:
    """Call the library; heavy imports happen here. Returns the exit code."""
    if args.verb == "train":
        from clipin_jax.training.loop import train

        config = load_config(args.config, args.overrides + args.rest)
        path = find_config(args.config.partition(":")[0])
        folder = path.parent if path.name == "config.json" else f"runs/{config.name}"
        return train(config, args.workdir or Path(folder))
    if args.verb == "evaluate":
        return run_evaluation(args)
    if args.verb == "caption":
        from clipin_jax.inference.caption import print_captions

        print_captions(args.run, args.images, args.step, args.strategy, args.json)
    if args.verb == "explain":
        from clipin_jax.report.explanation_sheet import write_explanations

        path = write_explanations(
            args.runs, args.image, args.text, args.output, method=args.method,
            layer=args.layer, words=args.words, step=args.step,
        )  # fmt: skip
        print(f"clipin: written to {path}")
    if args.verb == "report":
        from clipin_jax.report import write_report

        output = args.output or args.runs[0] / "report.html"
        print(f"report: {write_report(args.runs, output)}")
    if args.verb == "study":
        from clipin_jax.study.runner import run_study, write_study_page

        if args.study.endswith(".json"):
            print(f"study: {write_study_page(Path(args.study))}")
            return DONE
        return run_study(args.study, args.workdir, args.jobs)
    if args.verb == "data":
        return run_data(args)
    if args.verb == "doctor":
        from clipin_jax.commands.doctor import examine

        return examine()
    return DONE


def run_evaluation(args: argparse.Namespace) -> int:
    """Score by the run's own config, or by a suite. Returns the exit code."""
    chosen = dict(step=args.step, output=args.output)
    if args.suite:
        from clipin_jax.training.suites import evaluate_suite

        evaluate_suite(args.run, args.suite, data=args.data, only=args.only, **chosen)
    elif args.data or args.only:
        raise ClipinError("--data and --only belong to a suite: add --suite core")
    else:
        from clipin_jax.training.evaluate import evaluate

        evaluate(args.run, **chosen)
    return DONE


def run_data(args: argparse.Namespace) -> int:
    """Call one of the tools for data. Returns the exit code."""
    config = load_config(args.config, args.overrides + args.rest)
    if args.action == "check":
        from clipin_jax.datatools.check import check

        return check(config, args.records, args.output, args.json)
    if args.action == "bench":
        from clipin_jax.datatools.bench import bench

        return bench(config, args.step_ms, args.seconds, args.workers, args.json)
    from clipin_jax.datatools.convert import convert

    return convert(config, args.out, args.to, args.records_per_file, args.overwrite)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. What a user can mend is one line on stderr and exit code 1."""
    logging.basicConfig(format="clipin: %(levelname)s: %(message)s")
    try:
        return run(parse(argv))
    except ClipinError as error:
        print(f"clipin: error: {error}", file=sys.stderr)
        return FAILED
    except (AttributeError, KeyError) as error:
        if (key := missing_key(error)) is None:
            raise
        print(
            f"clipin: error: the config lacks the key {key}: it is of another version "
            "of clipin_jax or was written by hand; look how those in configs/ have it",
            file=sys.stderr,
        )
        return FAILED
    except KeyboardInterrupt:
        print("clipin: stopped", file=sys.stderr)
        return 130
