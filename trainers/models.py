"""The README's table of models: `python -m trainers.models RUN… --readme README.md`.

Every preset of the zoo has a row: topology, encoder, output stride, parameters and multiply-adds, which are counted
now, and the time of an image, which is measured where --time asks for it. A run that is given fills the row of its
architecture, or adds one, with its best epoch's grader, mIoU and SI-logRMSE and a link to its card, or to --page. What
runs and clocks gave is kept in --facts, so that the table can be made again where the runs are not; nothing in it is
typed. With --check the README is compared, not written: exit status 1 where it differs.
"""

import sys
from pathlib import Path

from absl import flags

from mtl_keras.errors import UserError
from trainers import cli, model_table
from trainers.model_table import Facts

FLAGS = flags.FLAGS
EXIT_DIFFERS = 1

flags.DEFINE_string("readme", "README.md", "file that holds the table, between <!-- models:begin --> and …:end -->")
flags.DEFINE_string("facts", "docs/models.json", "file that keeps what runs and clocks gave")
flags.DEFINE_string("page", None, "page to link the given runs to, such as docs/studies/final/README.md; their card")
flags.DEFINE_bool("time", False, "measure each model's time per image on this machine")
flags.DEFINE_bool("check", False, "compare the README with what it should hold, and write nothing")


def main(arguments: list[str]) -> int | None:
    readme, path = Path(FLAGS.readme), Path(FLAGS.facts)
    if FLAGS.check and (arguments or FLAGS.time):
        raise UserError("check: compares with the facts that are kept; leave runs and --time away")
    text = model_table.read_page(readme)
    facts = Facts.read(path)
    for run in arguments:
        entry = model_table.read_run(run, FLAGS.page, readme.parent)
        facts.runs[entry.name] = entry
    if FLAGS.time:
        facts.milliseconds, facts.machine = model_table.measure_times(facts)
    table = model_table.table(facts)
    wanted = model_table.put_table(text, table)
    if FLAGS.check:
        if wanted == text:
            return None
        print(f"error: {readme}: its table of models is not the current one; run `make models`", file=sys.stderr)
        return EXIT_DIFFERS
    facts.write(path)
    model_table.write_page(readme, wanted)
    print(table)
    return None


if __name__ == "__main__":
    cli.launch(main, takes_arguments=True)
