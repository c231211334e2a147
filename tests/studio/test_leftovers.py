"""Uploads that a killed process left behind."""

import os
import time
from pathlib import Path

from django.core.files.uploadedfile import TemporaryUploadedFile

from studio import leftovers


def test_uploads_that_nobody_writes_to_any_more_go_and_nothing_else(settings, tmp_path, monkeypatch):
    settings.FILE_UPLOAD_TEMP_DIR = str(tmp_path)
    monkeypatch.setattr(leftovers, "_swept_at", float("-inf"))
    fresh, old = (TemporaryUploadedFile("model.tar.gz", "application/gzip", 3, None) for _ in range(2))
    parts = tmp_path / "parts" / "1-ab.part"
    parts.parent.mkdir()
    parts.touch()
    then = time.time() - 2 * 86400
    for path in (Path(old.temporary_file_path()), parts):
        os.utime(path, (then, then))
    assert leftovers.sweep() == 1
    assert Path(fresh.temporary_file_path()).exists()
    assert not Path(old.temporary_file_path()).exists()
    assert parts.exists()
    os.utime(fresh.temporary_file_path(), (then, then))
    assert leftovers.sweep() == 0, "once an hour is enough"
    fresh.close()
    old.close()
