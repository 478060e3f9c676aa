"""Keys in the wrong place are refused; those of the environment are looked for in what
test_label and test_train write."""

import pytest

from alps.cli.secret_settings import refuse_secret_overrides, refuse_secrets
from alps.errors import ConfigError
from tests.factories import create_images
from tests.programs import start

KEY = "0123456789abcdef0123456789abcdef01234567"
ENV = "${oc.env:WANDB_API_KEY}"


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"logger": {"api_key": "x"}}, "logger.api_key"),
        ({"logger": [{"settings": {"APIKEY": "x"}}]}, "logger.settings.APIKEY"),
        ({"hub": {"hf_token": "x"}}, "hub.hf_token"),
        ({"name": f"run of {KEY}"}, "name"),
        ({"name": ENV}, "name"),
        ({"name": "${oc.env: WANDB_API_KEY}"}, "name"),
        ({"name": '${oc.env:"WANDB_API_KEY",x}'}, "name"),
        ({"password": 7}, "password"),
    ],
)
def test_secrets_are_refused_by_name(config, name):
    with pytest.raises(ConfigError, match=rf"the value of {name} is a secret: .*wandb login") as e:
        refuse_secrets(config)
    assert KEY not in str(e.value)


def test_other_settings_are_not():
    refuse_secrets({"token_size": 3, "logger": {"api_key": None}, "key": "a", "tokens": 7})
    refuse_secret_overrides(["-m", "+dataset=dota", "masks.prompt=hbox,center", "~x"])


def test_a_key_that_another_variable_holds_is_not_written(tmp_path, monkeypatch, label):
    monkeypatch.setenv("MINE", KEY)
    create_images(tmp_path / "images", 1)
    done = label(
        *("+dataset=folder", "dataset.root=images", "dataset.name=x", "store=store"),
        "+dataset.note=${oc.env:MINE}",
    )
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "the value of dataset.note is a secret" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize("program", ["label.py", "train.py"])
@pytest.mark.parametrize("word", [f"+logger.api_key={KEY}", f"+note={KEY}", f"+note={ENV}", KEY])
@pytest.mark.parametrize("sweep", [(), ("-m",)])
def test_a_key_on_the_command_line_is_not_written(tmp_path, program, word, sweep):
    arguments = [*sweep, word, "stage=pretrain" if program == "train.py" else "+dataset=sample"]
    done = start(program, *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "is a secret" in done.stderr
    assert done.stderr.count("\n") == 1
    assert KEY not in done.stderr + done.stdout
    assert list(tmp_path.iterdir()) == []
