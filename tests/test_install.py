"""What `pip install .` takes along, and what an installed copy says of where it comes from."""

import subprocess
import tomllib

from packaging.requirements import Requirement

from wgan_jax.training import workdir


def test_every_folder_of_the_package_is_a_package(root):
    """Setuptools' find leaves a folder without __init__.py out, silently."""
    folders = {path.parent for path in (root / "wgan_jax").rglob("*.py")}
    assert len(folders) >= 8
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_dependencies_are_those_of_requirements_txt(root):
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["dependencies"]
    (file,) = settings["tool"]["setuptools"]["dynamic"]["dependencies"]["file"]
    lines = [line.partition(" #")[0].strip() for line in (root / file).read_text().splitlines() if not line.startswith("#")]
    assert {"jax", "flax", "matplotlib"} <= {Requirement(line).name for line in lines if line}


def test_a_copy_inside_another_repository_is_not_that_repository(tmp_path, monkeypatch):
    """An environment often lies, ignored, in the repository of the work that it is for."""

    def git(*words):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", "-C", str(tmp_path), *who, *words], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    file = tmp_path / "env" / "wgan_jax" / "training" / "workdir.py"
    file.parent.mkdir(parents=True)
    file.touch()
    (tmp_path / "work.txt").touch()
    monkeypatch.setattr(workdir, "__file__", str(file))
    git("init", "-q")
    git("add", "work.txt")
    git("commit", "-qm", "work")
    assert workdir._git() is None
    git("add", "env")
    git("commit", "-qm", "a source tree")
    assert workdir._git() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
