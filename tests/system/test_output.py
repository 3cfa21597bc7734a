import io
import json
import logging
import sys
from pathlib import Path

import pytest
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from coterie.cli.arguments import make_console
from coterie.cli.terminal.progress import make_progress
from coterie.system.output import OutputLost, guarded_streams, say, shown, to_json

# The title, the clipboard, a cleared screen, 8-bit codes, an overwritten line, and letters in another order.
HOSTILE = "a\x1b]0;title\x07b\x1b]52;c;aGk=\x07c\x1b[2Jd\x9b2Je\rf\u202eg\u2028h\udcffi"
TITLE = "[/x] weight [kg] :smile:"


def stream(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding, newline="\n")


def written(to: io.TextIOWrapper) -> str:
    to.flush()
    return to.buffer.getvalue().decode(to.encoding)


def catch(name: str, monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8") -> io.TextIOWrapper:
    """In the body of a test, since pytest puts its own in place between a fixture and the test."""
    monkeypatch.setattr(sys, name, stream(encoding))
    return getattr(sys, name)


def controls(text: str) -> set[str]:
    """What a terminal would be told, but for line ends."""
    return {sign for sign in text if sign == "\r" or not (sign.isprintable() or sign.isspace())}


def test_control_characters_are_shown_and_all_others_stay() -> None:
    assert controls(HOSTILE)
    assert shown("\x1b[2J\x7f\x9b\u202e\u2028\udcff\r") == r"\x1b[2J\x7f\x9b\u202e\u2028\udcff\r"
    plain = "é 汉字 \N{WOMAN}\N{ZERO WIDTH JOINER}\N{ROCKET} [kg] \\x1b\n\t:smile: \N{NO-BREAK SPACE}%"
    assert shown(plain) == plain


def test_whatever_is_drawn_passes_the_console(monkeypatch) -> None:
    out = catch("stdout", monkeypatch)
    with guarded_streams():
        console = make_console()
        console.print(HOSTILE + TITLE, soft_wrap=True)
        table = Table(HOSTILE, title=HOSTILE)
        table.add_row(HOSTILE, TITLE)
        table.add_row(Text(HOSTILE, style="bold"), Text(TITLE))
        console.print(table)
        with make_progress(console) as progress:
            progress.stage(HOSTILE + TITLE, 1)
            progress.advance(1)
            progress.note(TITLE)
    text = written(out)
    assert controls(text) == set()
    assert r"\x1b]0;title" in text
    assert text.count(TITLE) >= 4
    for part in (r"\x1b[2J", r"\u202e"):
        assert part in text


def test_bars_on_a_terminal_show_names_as_they_are(monkeypatch) -> None:
    out = catch("stdout", monkeypatch)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "150")
    with guarded_streams(), make_progress(make_console()) as progress:
        assert isinstance(progress.bars, Progress)
        progress.stage(f"{TITLE}\x1b]0;x", 1)
        progress.advance(1)
    text = written(out)
    assert "\x1b[" in text  # rich may still draw
    assert TITLE in text
    assert "\x1b]" not in text


def test_whatever_is_printed_by_anybody_passes_the_streams(monkeypatch) -> None:
    out, err = catch("stdout", monkeypatch), catch("stderr", monkeypatch)
    with guarded_streams():
        sys.stdout.write(HOSTILE)
        sys.stderr.write(HOSTILE)
        say(HOSTILE)
        logging.StreamHandler().emit(logging.makeLogRecord({"msg": HOSTILE}))
        sys.stderr.writelines(["\x1b[31mred\x1b[0m \x1b[A\r", "\x1b[8;1t"])
    for text in (written(out), written(err)):
        assert "\x1b]" not in text
        assert r"\x1b]0;title\x07" in text
        assert not controls(text) - {"\x1b", "\r"}
    assert written(err).endswith("\x1b[31mred\x1b[0m \x1b[A\r\\x1b[8;1t")  # colours, and what bars are drawn with


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "utf-16"])
def test_json_lines_are_exact_in_any_encoding(encoding: str, monkeypatch) -> None:
    catch("stdout", monkeypatch, encoding)
    value = {"name": HOSTILE + "\x85 é \N{ROCKET} 汉 \\x1b \x7f"}
    with guarded_streams():
        sys.stdout.write(to_json(value))
    text = written(sys.stdout)
    assert len(text.splitlines()) == 1
    assert controls(text) == set()
    assert json.loads(text) == value
    with guarded_streams():
        sys.stdout.write("\n" + to_json([value], indent=2))
    assert json.loads(written(sys.stdout).partition("\n")[2]) == [value]
    assert ("汉" in text) == encoding.startswith("utf")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_no_sign_ends_a_command(encoding: str, monkeypatch) -> None:
    catch("stdout", monkeypatch, encoding)
    catch("stderr", monkeypatch, encoding)
    with guarded_streams():
        table = Table("name", title="t")
        table.add_column("short", no_wrap=True, overflow="ellipsis", width=5)
        table.add_row("✓ 汉 \N{MINUS SIGN}1.00\N{NO-BREAK SPACE}% ±", "long enough")
        make_console().print(table)
        say("✓ é")
    assert "x \\u6c49 -1.00" in written(sys.stdout)
    assert ("long\N{HORIZONTAL ELLIPSIS}" if encoding == "cp1252" else "long...") in written(sys.stdout)
    assert written(sys.stderr).startswith("x ")
    assert sys.stdout.errors == "strict"


class Full(io.TextIOWrapper):
    def __init__(self, error: OSError) -> None:
        super().__init__(io.BytesIO(), "utf-8")
        self.error = error

    def write(self, _: str) -> int:
        raise self.error


def test_lost_output_ends_the_command_and_lost_messages_do_not(monkeypatch) -> None:
    error = OSError(28, "No space left on device")
    monkeypatch.setattr(sys, "stdout", Full(error))
    before = sys.stdout
    with pytest.raises(OutputLost) as lost, guarded_streams():
        make_console().print("a table")
    assert lost.value.error is error
    assert sys.stdout is before
    monkeypatch.setattr(sys, "stderr", Full(error))
    say("a message")
    with guarded_streams():
        sys.stderr.write("a message")


def test_a_buffer_that_cannot_be_written_is_noticed_before_the_end(monkeypatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(OutputLost), guarded_streams():
            sys.stdout.write("short")
        full.flush()  # what was held back is gone; the interpreter has nothing to write when it ends


def test_closed_streams_take_everything(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdin", None)
    with guarded_streams():
        assert sys.stdin.read() == ""
        make_console().print("a table")
        sys.stdout.write("an answer")
        say("a message")
    say("a message")
    assert sys.stdout is None
