"""click's runner with standard error apart from standard output, in every version of click."""

from click.testing import CliRunner


def new_runner() -> CliRunner:
    try:
        return CliRunner(mix_stderr=False)
    except TypeError:  # click 8.2 and later always keep them apart
        return CliRunner()
