"""Tables from files: what is understood, what is refused in one line, trained and sampled back as they were."""

import io
import json

import jax
import numpy as np
import pandas as pd
import pytest

from configs.default import default_config
from experiments.rows import condition_of, parse_where
from wgan_jax.config import mistakes
from wgan_jax.data import DATASETS, introduce, load_dataset
from wgan_jax.data.source import make_draw, plan_feeds
from wgan_jax.errors import UserError

RNG = np.random.default_rng(0)
N = 60


def plain_table():
    return pd.DataFrame(
        {
            "price": np.round(RNG.lognormal(3, 1, N), 2),
            "cut": RNG.choice(["Fair", "Good", "Ideal"], N),
            "rooms": RNG.integers(1, 9, N),
            "sold": RNG.choice(["yes", "no"], N),
            "day": pd.date_range("2024-01-30", periods=N).strftime("%Y-%m-%d"),
            "score": np.where(np.arange(N) % 5 == 0, np.nan, RNG.normal(size=N)),
            "city": np.where(np.arange(N) % 7 == 0, None, RNG.choice(["Bonn", "Köln"], N)),
            "country": "Germany",
        }
    )


TABLE = plain_table()
KINDS = ["number", "category", "integer", "category", "date", "number", "category", "constant"]


def load(path, **values):
    config = default_config()
    config.data.update({"name": "table", "path": str(path), **values})
    config.conditioning.name = values.pop("conditioning", "none")
    return load_dataset(config)


def csv(table=TABLE, **options):
    return table.to_csv(index=False, **options)


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def whole(dataset):
    """The rows of all splits as a frame, in the order of the first column."""
    rows = np.concatenate([split.images for split in dataset.splits.values()])
    return dataset.scaling.frame(rows).sort_values("price").reset_index(drop=True)


WRITTEN = {
    "as pandas writes it": csv(),
    "with a byte order mark": "\ufeff" + csv(),
    "in UTF-16": csv().encode("utf-16"),
    "with CRLF": csv(lineterminator="\r\n"),
    "with carriage returns alone": csv(lineterminator="\r"),
    "with semicolons and decimal commas": csv(sep=";", decimal=","),
    "with tabs": csv(sep="\t"),
    "with bars": csv(sep="|"),
    "with every field quoted": csv(quoting=1),
    "with NA for what is missing": csv(na_rep="NA"),
    "with an index": TABLE.to_csv(),
    "with an index from 1, as R writes it": TABLE.set_axis(range(1, N + 1)).to_csv(na_rep="NA", quoting=2),
    "with spaces after commas": csv().replace(",", ", "),
    "without an end of the last line": csv().rstrip("\n"),
    "with empty lines between": csv().replace("\n", "\n\n"),
    "with dates by points": csv(TABLE.assign(day=pd.to_datetime(TABLE["day"]).dt.strftime("%d.%m.%Y"))),
    "with times": csv(TABLE.assign(day=TABLE["day"] + " 13:45:30")),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_a_file_is_read_however_it_is_written(case, tmp_path):
    dataset = load(write(tmp_path / "x.csv", WRITTEN[case]))
    assert [column.kind for column in dataset.scaling.columns] == KINDS
    assert dataset.scaling.columns[5].missing
    expected = TABLE.sort_values("price").reset_index(drop=True)
    found = whole(dataset)
    assert [str(dtype) for dtype in found.dtypes] == ["float64", "str", "int64", "str", "str", "float64", "str", "str"]
    for name in ("cut", "sold", "city", "country", "rooms", "price"):
        assert found[name].fillna("").tolist() == expected[name].fillna("").tolist()
    np.testing.assert_allclose(found["score"], expected["score"], rtol=1e-12)
    form = dataset.scaling.columns[4].form
    assert pd.to_datetime(found["day"], format=form).dt.strftime("%Y-%m-%d").tolist() == expected["day"].tolist()
    assert dict(dataset.left_out) == ({"index column": 1} if "index" in case else {})
    told = dataset.scaling
    if "semicolons" in case:
        assert (told.separator, told.decimal) == (";", ",")
    if "NA" in case:
        assert told.absent == "NA"


def test_a_run_says_what_the_columns_are(tmp_path):
    config = default_config()
    config.data.update({"name": "table", "path": str(write(tmp_path / "x.csv", csv()))})
    line = introduce(config, load_dataset(config))
    assert (
        "48 train / 6 validation / 6 test rows of 8 columns: price number, cut 3 categories, rooms integer, sold yes/no" in line
    )
    assert "day date, score number with missing values, city yes/no with missing values, country constant" in line


def test_quotes_may_hold_separators_quotes_and_lines(tmp_path):
    words = ["a,b;c", 'say "x"', "two\nlines"]
    table = pd.DataFrame({"price": np.arange(N) / 2, "word": [words[i % 3] for i in range(N)]})
    dataset = load(write(tmp_path / "x.csv", csv(table)))
    assert sorted(dataset.scaling.columns[1].values) == sorted(words)


def test_parquet_keeps_its_types(tmp_path):
    table = TABLE.assign(
        day=pd.to_datetime(TABLE["day"]),
        sold=TABLE["sold"] == "yes",
        cut=pd.Categorical(TABLE["cut"], ["Fair", "Good", "Ideal"], ordered=True),
        price=TABLE["price"].astype("float32"),
        when=pd.to_datetime(TABLE["day"]).dt.tz_localize("Europe/Berlin"),
        city=pd.Categorical(TABLE["city"]),
    )
    table.to_parquet(tmp_path / "x.parquet")
    dataset = load(tmp_path / "x.parquet")
    kinds = ["number", "ordered", "integer", "category", "date", "number", "category", "constant", "date"]
    assert [column.kind for column in dataset.scaling.columns] == kinds
    expected = table.sort_values("price").reset_index(drop=True)
    pd.testing.assert_frame_equal(whole(dataset), expected, check_exact=False)


def test_kinds_may_be_said(tmp_path):
    path = write(tmp_path / "x.csv", csv())
    asked = "price:log,cut:Fair<Good<Ideal,rooms:category,score:modes,day:drop,city:ordered,sold:drop"
    columns = load(path, columns=asked).scaling.columns
    assert [(column.name, column.kind, column.method) for column in columns] == [
        ("price", "number", "log"),
        ("cut", "ordered", "quantile"),
        ("rooms", "category", ""),
        ("score", "number", "modes"),
        ("city", "ordered", "quantile"),
        ("country", "constant", ""),
    ]
    assert columns[1].values == ("Fair", "Good", "Ideal")
    assert columns[2].values == tuple(sorted(set(TABLE["rooms"].tolist())))
    swapped = csv(
        TABLE.assign(day=pd.to_datetime(TABLE["day"]).dt.strftime("%d/%m/%Y").where(lambda d: d.str[:2] < "13", "03/04/2024"))
    )
    column = load(write(path, swapped), columns="day:%d/%m/%Y").scaling.columns[4]
    assert (column.form, column.unit) == ("%d/%m/%Y", "D")
    assert {column.method for column in load(write(path, csv()), numbers="standard").scaling.columns} == {"standard", ""}


def test_leading_zeros_are_codes_and_0_and_1_a_yes_or_no(tmp_path):
    table = TABLE.assign(rooms=[f"{index % 3:03}" for index in range(N)], sold=RNG.integers(0, 2, N))
    dataset = load(write(tmp_path / "x.csv", csv(table)))
    assert dataset.scaling.columns[2].values == ("000", "001", "002")
    assert dataset.scaling.columns[3].values == (0, 1)
    assert str(whole(dataset)["sold"].dtype) == "int64"


def test_a_column_of_nothing_stays_one(tmp_path):
    dataset = load(write(tmp_path / "x.csv", csv(TABLE.assign(country=np.nan))))
    assert whole(dataset)["country"].isna().all()


def test_the_fingerprint_tells_rows_kinds_and_splits_apart(tmp_path):
    path = write(tmp_path / "x.csv", csv())
    prints = [load(path, **values).fingerprint for values in ({}, {}, {"holdout": 0.2}, {"columns": "rooms:category"})]
    prints.append(load(write(path, csv(TABLE.assign(rooms=TABLE["rooms"] + 1)))).fingerprint)
    assert len(set(prints)) == 4
    assert prints[0] == prints[1]


@pytest.mark.slow
@pytest.mark.parametrize("resident_mb", [100, 0])
def test_a_batch_is_of_rows_and_one_of_their_conditions(resident_mb, make_config, tmp_path):
    """The same rows and labels whether they lie on the device or are streamed; entries lie where their values do."""
    path = write(tmp_path / "x.csv", csv())
    small = {
        "conditioning.name": "embedding",
        "data.path": str(path),
        "data.resident_mb": resident_mb,
        "batch_size": 20,
        "devices": 1,
    }
    config = make_config("wgan_gp.py:table", small)
    dataset = load_dataset(config)
    feed = plan_feeds(config, dataset, lambda tree: tree, lambda feed: feed).at(3)
    x, label = make_draw(dataset, 20)(jax.tree.map(np.asarray, feed), np.int32(4), jax.random.key(0), 2)
    assert x.shape == (2, 20, dataset.shape[0])
    rows = dataset.encode(x.reshape(40, -1))
    assert (dataset.scaling.labels(rows) == np.asarray(label).reshape(-1, 1)).any(axis=1).all()
    known = {tuple(row) for row in np.nan_to_num(dataset.train.images, nan=-1).tolist()}
    near = [tuple(row) in known for row in np.nan_to_num(rows, nan=-1).tolist()]
    assert np.mean(near) > 0.9
    again = load_dataset(make_config("wgan_gp.py:table", {**small, "data.resident_mb": 100}))
    beside = plan_feeds(config, again, lambda tree: tree, lambda feed: feed).at(3)
    np.testing.assert_array_equal(make_draw(again, 20)(beside, np.int32(4), jax.random.key(0), 2).label, label)


def test_the_loader_reads_what_its_line_says(tmp_path):
    read = set()

    class Recorder:
        def __getattr__(self, key):
            read.add(key)
            return values[key]

    values = default_config().data
    values.update({"name": "table", "path": str(write(tmp_path / "x.csv", csv(TABLE.assign(price=TABLE["price"] * np.inf))))})
    with pytest.raises(UserError, match="hold infinity"):
        DATASETS["table"].load(Recorder())
    values.skip_damaged = True
    values.path = str(write(tmp_path / "x.csv", csv()))
    DATASETS["table"].load(Recorder())
    assert read == set(DATASETS["table"].reads)


# What is wrong

FEW = TABLE[:10]
BAD = {
    "nothing": (lambda p: p, {}, "no such file; set --config.data.path=FILE.csv"),
    "a folder": (lambda p: p.mkdir() or p, {}, "no such file"),
    "another kind of file": (lambda p: write(p.with_suffix(".xlsx"), b"PK\x03\x04"), {}, "none of .csv, .tsv, .txt, .parquet"),
    "Excel by another name": (lambda p: write(p, b"PK\x03\x04abc"), {}, "an Excel file or another archive"),
    "an empty file": (lambda p: write(p, ""), {}, "an empty file"),
    "white space": (lambda p: write(p, " \n\n"), {}, "an empty file"),
    "a header alone": (lambda p: write(p, "a,b\n"), {}, "names of columns, and no rows"),
    "no header": (
        lambda p: write(p, csv(TABLE[["price", "rooms"]], header=False)),
        {},
        "the first line holds numbers, not names",
    ),
    "Latin-1": (lambda p: write(p, csv().encode("latin-1")), {}, "not UTF-8, from byte"),
    "zero bytes": (lambda p: write(p, b"a,b\n1,\x002\n"), {}, "holds zero bytes"),
    "a row too long": (lambda p: write(p, csv() + "1,2,3,4,5,6,7,8,9\n"), {}, "no table: "),
    "an open quote": (lambda p: write(p, csv() + '1,"2'), {}, "no table: "),
    "two names alike": (lambda p: write(p, csv().replace("rooms", "price", 1)), {}, "two columns are named price"),
    "a name lacking": (lambda p: write(p, csv().replace("rooms", "", 1)), {}, "column 3 of 8 has no name"),
    "no index without a name": (
        lambda p: write(p, csv().replace("price", "", 1)),
        {},
        "column 1 of 8 has no name",
    ),
    "unique text": (
        lambda p: write(p, csv(TABLE.assign(cut=[f"stone {index}" for index in range(N)]))),
        {},
        "column cut: 60 different texts in 60 rows, of which nothing can be learned; leave it out with --config",
    ),
    "numbers and other things": (
        lambda p: write(p, csv(TABLE.assign(price=[*TABLE["price"].tolist()[:-1], "much"]))),
        {},
        "column price: 1 of 60 values are no numbers, the first is 'much' in row 60",
    ),
    "thousands or decimals": (
        lambda p: write(p, csv(TABLE.assign(price=[f"1,{index:03}" for index in range(N)]))),
        {},
        "column price: 1,000 may be 1000 or 1.000; write it so",
    ),
    "days or months": (
        lambda p: write(p, csv(TABLE.assign(day=[f"{index % 12 + 1:02}/05/2024" for index in range(N)]))),
        {},
        "column day: 01/05/2024 may be %d/%m/%Y or %m/%d/%Y; say which with --config.data.columns=day:%d/%m/%Y",
    ),
    "infinity": (
        lambda p: write(p, csv(TABLE.assign(price=[*TABLE["price"].tolist()[:-1], "inf"]))),
        {},
        "row 60, column price",
    ),
    "too few rows": (lambda p: write(p, csv(FEW)), {}, "too few rows: 8 train, 1 validation, 1 test; each split needs 4"),
    "nothing that varies": (lambda p: write(p, csv(TABLE[["country"]].assign(b=1))), {}, "no column with more than one value"),
    "nothing at all": (lambda p: write(p, "a,b\n" + ",\n" * 60), {}, "no column with more than one value"),
    "every column dropped": (lambda p: write(p, csv(TABLE[["price"]])), {"columns": "price:drop"}, "drops every column"),
    "no such column": (
        lambda p: write(p, csv()),
        {"columns": "prize:log"},
        "config.data.columns: no column prize; there are price",
    ),
    "no such target": (lambda p: write(p, csv()), {"target": "prize"}, "config.data.target: no column prize; there are price"),
    "words as numbers": (lambda p: write(p, csv()), {"columns": "cut:number"}, "column cut: 60 of 60 values are no numbers"),
    "words as dates": (lambda p: write(p, csv()), {"columns": "cut:date"}, "is no date that is known here"),
    "the logarithm of 0": (
        lambda p: write(p, csv(TABLE.assign(price=TABLE["price"] - 1000))),
        {"columns": "price:log"},
        "config.data.columns: price:log: its values go down to",
    ),
    "an order that lacks one": (lambda p: write(p, csv()), {"columns": "cut:Fair<Good"}, "it has Ideal too"),
    "no Parquet": (lambda p: write(p.with_suffix(".parquet"), csv()), {}, "no Parquet file, or damaged"),
    "lists in Parquet": (
        lambda p: TABLE.assign(cut=[[1, 2]] * N).to_parquet(p.with_suffix(".parquet")) or p.with_suffix(".parquet"),
        {},
        "column cut: holds",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_line_that_names_the_key(case, tmp_path):
    make, options, words = BAD[case]
    path = make(tmp_path / "x.csv")
    with pytest.raises(UserError) as caught:
        load(path, **options)
    (line,) = caught.value.lines
    assert line.startswith("config.data.")
    assert words in line
    assert len(line) < 500 + 2 * len(str(path))


def test_rows_with_infinity_may_be_left_out(tmp_path):
    path = write(tmp_path / "x.csv", csv(TABLE.assign(price=[*TABLE["price"].tolist()[:-1], "inf"])))
    dataset = load(path, skip_damaged=True)
    assert dict(dataset.left_out) == {"with infinity": 1}
    assert sum(len(split.images) for split in dataset.splits.values()) == N - 1


@pytest.mark.parametrize("text", ["price", "price:", ":log", "price:exponential", "price:log,,"])
def test_kinds_are_checked_before_anything_is_read(text, make_config):
    config = make_config("wgan_gp.py:table")
    config.data.columns = text
    (line,) = mistakes(config)
    assert line.startswith(f"config.data.columns: {text!r} is not NAME:KIND,... with KIND one of drop, number")


# Trained and sampled

TINY = {"steps": 2, "eval_every": 2, "sample_every": 2, "checkpoint_every": 2, "log_every": 2, "batch_size": 8, "packing": 2}
TINY |= {"devices": 1, "eval.draws": 1, "eval.samples": 10, "model.width": 4, "latent.dim": 3, "data.holdout": 0.2}
TINY |= {
    "conditioning.name": "embedding",
    "eval.metrics": "wasserstein,copying,columns,associations,detection,utility,conditions",
}


@pytest.fixture(scope="module")
def run(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("table")
    path = write(folder / "x.csv", csv(na_rep="NA"))
    words = [f"--config.{key}={value}" for key, value in {**TINY, "data.path": path}.items()]
    code, out, error = command("run", "--config=configs/wgan_gp.py:table", f"--workdir={folder / 'run'}", *words)
    assert (code, error) == (0, "")
    path.unlink()  # what samples are needs the run alone
    return folder, out


@pytest.mark.slow
def test_a_run_of_a_table_tells_and_draws_what_it_is(run):
    folder, out = run
    assert "rows of 8 columns: price number, cut 3 categories" in out
    for words in (
        "column distance",
        "worst column",
        "association difference",
        "detection auc",
        "utility",
        "condition agreement",
    ):
        assert words in out
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert 0 <= summary["final"]["detection_auc"] <= 1
    assert summary["real"]["column_distance"] > 0
    for name in ("samples", "real", "associations", "loss", "wasserstein"):
        assert (folder / "run" / "figures" / f"{name}.png").exists()


def test_samples_are_the_table_again_and_the_same_with_the_same_seed(run, command):
    folder, _ = run
    for name in ("a", "b"):
        code, out, error = command("sample", f"--workdir={folder / 'run'}", f"--out={folder / f'{name}.csv'}", "--num=100")
        assert (code, error) == (0, "")
        assert "100 rows of step 2" in out
    assert (folder / "a.csv").read_bytes() == (folder / "b.csv").read_bytes()
    given, made = pd.read_csv(io.StringIO(csv(na_rep="NA"))), pd.read_csv(folder / "a.csv")
    assert list(made.columns) == list(given.columns)
    assert [str(dtype) for dtype in made.dtypes] == [str(dtype) for dtype in given.dtypes]
    for name in ("cut", "sold", "city", "country"):
        assert set(made[name].dropna()) <= set(given[name].dropna())
    for name in ("price", "rooms", "score", "day"):
        there = made[name].dropna()
        assert given[name].min() <= there.min() <= there.max() <= given[name].max()
    assert ",NA," in (folder / "a.csv").read_text()


def test_parquet_arrays_and_figures_of_rows(run, command):
    folder, _ = run
    for suffix in ("parquet", "npz", "png"):
        assert command("sample", f"--workdir={folder / 'run'}", f"--out={folder / f's.{suffix}'}", "--num=100")[0] == 0
    table = pd.read_parquet(folder / "s.parquet")
    assert [str(dtype) for dtype in table.dtypes] == ["float64", "str", "int64", "str", "str", "float64", "str", "str"]
    with np.load(folder / "s.npz", allow_pickle=False) as arrays:
        samples = arrays["samples"]
        assert arrays["latents"].shape == (100, 3)
    assert samples.dtype.names == tuple(table.columns)
    np.testing.assert_array_equal(samples["rooms"], table["rooms"])
    np.testing.assert_array_equal(samples["city"], table["city"].fillna(""))


def test_where_gives_rows_that_have_all_of_it(run, command):
    folder, _ = run
    flags = [f"--workdir={folder / 'run'}", f"--out={folder / 'w.csv'}", "--num=20", "--where=cut=Ideal,rooms>=2,city="]
    code, out, error = command("sample", *flags)
    assert (code, error) == (0, "")
    made = pd.read_csv(folder / "w.csv")
    assert len(made) == 20
    assert set(made["cut"]) == {"Ideal"}
    assert made["rooms"].min() >= 2
    assert made["city"].isna().all()
    assert "drawn)" in out


def test_an_exported_generator_gives_a_number_per_column(run, command):
    folder, _ = run
    assert command("sample", f"--workdir={folder / 'run'}", f"--export={folder / 'g'}")[0] == 0
    said = json.loads((folder / "g.json").read_text())
    assert said["output"]["shape"] == [8]
    assert [column["name"] for column in said["output"]["columns"]] == list(TABLE.columns)
    call = jax.export.deserialize(bytearray((folder / "g").read_bytes())).call
    assert call(np.zeros((5, 3), np.float32), np.zeros(5, np.int32)).shape == (5, 8)


WRONG_FLAGS = {
    "--where=cut": "write NAME=VALUE",
    "--where=size=3": "--where: no column size; there are price, cut",
    "--where=cut=Great": "--where: cut has no value 'Great'; it has Fair, Good, Ideal",
    "--where=price=much": "--where: 'much' is no number, and price holds such",
    "--where=day=soon": "--where: 'soon' is no date",
    "--where=cut<Ideal": "has no order; write = or !=",
    "--where=price>1e9": "rows match, and --num=64 are asked for; ask for less",
    "--label=3": "rows of a table are asked for with --where=NAME=VALUE",
    "--interpolate=3": "of images and volumes, and this run makes rows of a table",
}


@pytest.mark.parametrize("flag", WRONG_FLAGS)
def test_what_cannot_be_asked_for_is_one_line(flag, run, command, monkeypatch):
    from experiments import rows

    monkeypatch.setattr(rows, "MOST", 1000)
    code, _, error = command("sample", f"--workdir={run[0] / 'run'}", flag)
    assert (code, error.count("\n")) == (2, 1)
    assert WRONG_FLAGS[flag] in error


def test_tables_alone_are_asked_for_rows(command, tmp_path, run):
    assert "both" not in WRONG_FLAGS
    code, _, error = command("sample", f"--workdir={tmp_path}", "--where=a=b", "--nearest=2")
    assert code == 2
    assert "rows of a table are no images" in error


def test_the_rarest_category_is_the_condition(tmp_path):
    columns = load(write(tmp_path / "x.csv", csv())).scaling
    wishes = parse_where("cut=Good,price<5,sold=no,rooms>1", columns)
    counts = [9, 9, 9, 3, 5, 9, 9, 9]
    assert columns.conditions[condition_of(wishes, columns, counts)] == "sold=no"
    assert condition_of(parse_where("price<5,cut!=Good", columns), columns, counts) is None
