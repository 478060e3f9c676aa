import pytest

from alps.errors import AlpsError, ConfigError, one_line_errors


class LibraryError(Exception):
    pass


def test_one_line_and_status_1(capsys):
    with pytest.raises(SystemExit) as stop, one_line_errors(LibraryError):
        raise ConfigError("what\n  came, where")
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: what came, where\n"


def test_the_wrapped_error_of_alps_is_printed(capsys):
    with pytest.raises(SystemExit), one_line_errors(LibraryError):
        try:
            raise AlpsError("the reason")
        except AlpsError as error:
            raise LibraryError("Error in call to target") from error
    assert capsys.readouterr().err == "error: the reason\n"


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), one_line_errors(LibraryError):
        _ = 1 / 0


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv("ALPS_TRACEBACK", "1")
    with pytest.raises(ConfigError), one_line_errors():
        raise ConfigError("x")


def test_an_interrupt_prints_how_to_resume(capsys):
    with pytest.raises(SystemExit) as stop, one_line_errors(interrupted="do it again"):
        raise KeyboardInterrupt
    assert stop.value.code == 130
    assert capsys.readouterr().err == "\ninterrupted: do it again\n"


def test_an_error_of_a_dataloader_worker_is_printed_without_traceback(capsys):
    prefix = "Caught ConfigError in DataLoader worker process 0.\nOriginal Traceback: ...\n"
    with pytest.raises(SystemExit), one_line_errors():
        raise ConfigError(f"{prefix}alps.errors.ConfigError: what came, where")
    assert capsys.readouterr().err == "error: what came, where\n"
