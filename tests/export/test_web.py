"""The folder of the web page: its files, and rejected inputs."""

import dataclasses
import json
import os
import re
import stat
import types

import pytest
from export.generators import LATENT_DIM, NUM_CLASSES, make_generator

from sagan_tf.errors import UserError
from sagan_tf.export import web
from sagan_tf.export.web import MARK, export_web
from sagan_tf.generation.folding import fold_generator

TRAINING = {"data": "pictures, split train", "step": 7, "seed": 3, "class_names": list("abcde"), "config": {}}


@pytest.fixture
def node_modules(tmp_path):
    """Files with the names of LiteRT.js."""
    for file in web._RUNTIME_FILES:
        path = tmp_path / "node_modules" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file)
    return tmp_path / "node_modules"


@pytest.fixture
def quick(monkeypatch):
    """Replaces the conversion and the names of directions, which take seconds and are tested elsewhere."""

    def export_tflite(folded, directory, variants, batch):
        assert batch == 1  # LiteRT.js accepts no other
        paths = {variant: directory / f"generator_{variant}.tflite" for variant in variants}
        for path in paths.values():
            path.write_bytes(b"model")
        return paths

    monkeypatch.setattr(web, "export_tflite", export_tflite)
    monkeypatch.setattr(web, "name_directions", lambda _, directions: (["name"] * len(directions), directions))


@pytest.fixture(scope="module")
def folded():
    return fold_generator(make_generator())


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_export_web_writes_every_file_that_the_page_requests(folded, node_modules, tmp_path, quick):
    folder = export_web(folded, tmp_path / "out" / "web", name="cats", training=TRAINING, node_modules=node_modules)
    assert os.listdir(folder.parent) == ["web"]  # no incomplete files are left
    description = json.loads((folder / MARK).read_text())
    assert description["name"] == "cats" and description["class_names"] == list("abcde")
    assert description["training"] == {"data": "pictures, split train", "step": 7, "seed": 3}
    assert (description["latent_dim"], description["num_classes"]) == (LATENT_DIM, NUM_CLASSES)
    assert description["attention"] == {"attention_8": [64, 16], "attention_16": [256, 64]}
    assert len(description["direction_names"]) == len(description["directions"]) == 6
    assert all((folder / file["path"]).stat().st_size == file["bytes"] for file in description["files"])
    named = re.findall(r'"(?:\./)?([\w./-]+\.(?:js|css|json))"', (folder / "index.html").read_text())
    named += re.findall(r'(?:from "\./|fetch\(")([\w./-]+)"', (folder / "app.js").read_text())
    assert {"app.js", "link.js", "style.css", "litert/core/index.js", "model.json"} <= set(named)
    assert set(named) <= set(files_in(folder))
    assert not re.search(r"https?://", "".join((folder / file).read_text() for file in web._PAGE_FILES))


def test_export_web_replaces_older_page_and_no_other_folder(folded, node_modules, tmp_path, monkeypatch, quick):
    folder = tmp_path / "web"
    export_web(folded, folder, node_modules=node_modules)
    (folder / "generator_int8.tflite").touch()
    export_web(folded, folder, name="second", node_modules=node_modules)
    assert "generator_int8.tflite" not in files_in(folder)
    assert json.loads((folder / MARK).read_text())["name"] == "second"

    with monkeypatch.context() as patch:
        patch.setattr("os.path.ismount", str(folder).__eq__)
        with pytest.raises(UserError, match=r"^web: .*web: a mount point cannot be replaced. Choose a folder in it"):
            export_web(folded, folder, node_modules=node_modules)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(UserError, match=r"^web: .*mine: this is not an exported page"):
        export_web(folded, tmp_path / "mine", node_modules=node_modules)
    assert files_in(tmp_path / "mine") == ["thesis.txt"]


def test_export_web_keeps_what_users_put_beside_a_page(folded, node_modules, tmp_path, quick, monkeypatch):
    # As for GitHub Pages: the folder is a repository with a file of the domain; here it is a link besides.
    folder = export_web(folded, tmp_path / "real", node_modules=node_modules)
    (tmp_path / "web").symlink_to("real")
    (folder / ".git" / "refs").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref")
    (folder / ".git" / "HEAD").chmod(0o444)
    (folder / "CNAME").write_text("gan.example.org")
    (folder / "nowhere").symlink_to("nothing")
    for name in ("second", "third"):
        export_web(folded, tmp_path / "web", name=name, node_modules=node_modules)
        assert (folder / ".git" / "HEAD").read_text() == "ref" and (folder / ".git" / "refs").is_dir()
        assert (folder / "CNAME").read_text() == "gan.example.org" and os.readlink(folder / "nowhere") == "nothing"
        assert (tmp_path / "web").is_symlink() and json.loads((folder / MARK).read_text())["name"] == name
        monkeypatch.setattr(os, "link", lambda *_, **__: os.stat(tmp_path / "no hard links"))
    assert sorted(os.listdir(tmp_path)) == ["node_modules", "real", "web"]


def test_export_web_keeps_older_page_when_it_fails(folded, node_modules, tmp_path, quick, monkeypatch):
    folder = export_web(folded, tmp_path / "web", node_modules=node_modules)
    before = (folder / MARK).read_bytes()

    def fail(*args, **kwargs):
        raise RuntimeError("no conversion")

    monkeypatch.setattr(web, "export_tflite", fail)
    with pytest.raises(RuntimeError):
        export_web(folded, folder, node_modules=node_modules)
    assert (folder / MARK).read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["node_modules", "web"]


def test_export_web_omits_maps_of_another_aspect_than_the_image(folded, quick):
    # A page that took 16 positions for a grid of 8 x 6 would draw wrong maps.
    one = types.SimpleNamespace(
        **{field.name: getattr(folded, field.name) for field in dataclasses.fields(folded)},
        image_shape=(8, 6, 3), latent_dim=folded.latent_dim, num_classes=None,
        attention_shapes={"attention_8": (48, 12), "attention_4": (16, 4)},
    )  # fmt: skip
    assert web.describe(one, "x", {}, {})["attention"] == {"attention_8": [48, 12]}


def test_export_web_rejects_missing_runtime_in_one_line(folded, node_modules, tmp_path, quick, monkeypatch):
    (node_modules / "@litertjs/core/dist/index.js").unlink()
    with pytest.raises(UserError, match=r"lacks @litertjs/core/dist/index.js. Run `npm ci`"):
        export_web(folded, tmp_path / "web", node_modules=node_modules)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UserError, match="npm is not installed.*--node_modules"):
        export_web(folded, tmp_path / "web")
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text("#!/bin/sh\necho 'npm error network\nis down' >&2\nexit 1\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(UserError, match="npm could not fetch LiteRT.js: npm error network is down Run `npm ci` in"):
        export_web(folded, tmp_path / "web")
    assert not (tmp_path / "web").exists() and not files_in(tmp_path / "cache")


def test_export_web_fetches_runtime_once(folded, tmp_path, quick, monkeypatch, capsys):
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    lines = [f"/bin/mkdir -p node_modules/{os.path.dirname(file)}\necho x > node_modules/{file}"
             for file in web._RUNTIME_FILES]  # fmt: skip
    npm.write_text("\n".join(["#!/bin/sh -e", "/bin/cat package-lock.json > /dev/null", *lines]) + "\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(npm.parent))
    export_web(folded, tmp_path / "web")
    assert "Fetching LiteRT.js" in capsys.readouterr().out
    npm.unlink()
    export_web(folded, tmp_path / "web")
    assert capsys.readouterr().out == ""
    assert (tmp_path / "web" / "litert" / "core" / "index.js").read_text() == "x\n"


def test_export_web_rejects_two_channels(node_modules, tmp_path):
    generator = make_generator(image_channels=2)
    with pytest.raises(UserError, match="1 or 3 image channels; the generator makes 2"):
        export_web(generator, tmp_path / "web", node_modules=node_modules)
