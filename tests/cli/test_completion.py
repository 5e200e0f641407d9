"""``rewind completion``, and the answers to the script that it prints."""

from __future__ import annotations

import pytest
from shell import succeed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(shell: str) -> None:
    assert f"_REWIND_COMPLETE={shell}_complete" in succeed("completion", shell).decode()


def test_completion_completes() -> None:
    asked = {"_REWIND_COMPLETE": "bash_complete", "COMP_WORDS": "rewind re", "COMP_CWORD": "1"}
    assert succeed(env=asked) == b"plain,read\n"
    asked["COMP_WORDS"] = "rewind serve --inc"
    assert succeed(env={**asked, "COMP_CWORD": "2"}) == b"plain,--incoming-bind\n"
