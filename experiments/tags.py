"""Turns a tag archive of anime faces into the metadata.csv of its folder of images.

    python -m experiments.tags --tags=tags.csv --images=DIR

Then train with --config.data.path=DIR --config.data.label=hair (or eyes). Lines are `id,tag:count<TAB>tag:count...` or
`id,<hair> hair <eyes> eyes`.
"""

from pathlib import Path

from experiments import command
from wgan_jax.errors import UserError


def tags(argv: list[str]) -> None:
    """Parses the flags and writes metadata.csv."""
    parser = command.Parser("experiments.tags", __doc__)
    parser.add_argument("--tags", type=command.path, required=True, metavar="FILE", help="the archive's file of tags")
    parser.add_argument(
        "--images", type=command.path, required=True, metavar="DIR", help="the folder of images, each named by its id"
    )
    flags, overrides = parser.parse(argv)
    if overrides:
        raise UserError(f"{overrides[0]}: there is no config here")
    missing = [f"--images: {flags.images}: no such folder"] * (not Path(flags.images).is_dir())
    missing += [f"--tags: {flags.tags}: no such file"] * (not Path(flags.tags).is_file())
    if missing:
        raise UserError(*missing)
    from wgan_jax.data.tags import write_metadata
    from wgan_jax.data.walk import in_words

    made = write_metadata(Path(flags.tags), Path(flags.images))
    print(f"{made.images} images: {Path(flags.images) / 'metadata.csv'}{in_words(made.left_out)}")
    print(f"unknown: hair of {made.no_hair}, eyes of {made.no_eyes}; {made.untagged} of the images have no line of tags")
    if made.unused:
        print(f"{made.unused} line{'s name' if made.unused > 1 else ' names'} no image")


if __name__ == "__main__":
    command.main(tags)
