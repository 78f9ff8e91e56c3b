"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from perfmodel.errors import UsageError


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file in one step: a temporary file in the same folder takes its name.

    Raises
    ------
    UsageError
        The folder does not exist or cannot be written to; nothing is left behind.
    """
    target, temporary = Path(path), ""
    try:
        # The prefix is cut: a long name with the letters that make it unique would not be a file name any more.
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}.", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files private; this one gets the permissions that any new file would.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(target)
    except OSError as error:
        raise UsageError(f"{target}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
