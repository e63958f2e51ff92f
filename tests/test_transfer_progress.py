"""What a person sees of the transfers."""

from spxflow.transfer import TransferRecord
from spxflow.transfer.progress import Progress


def record(status="ok", received_bytes=2_000_000):
    return TransferRecord("stem", status, "", "", 0, received_bytes, "", 1, 0.0, "cutout", 0)


def test_lines_come_now_and_then_and_at_the_end():
    lines, now = [], [0.0]
    progress = Progress(lines.append, every_s=10.0, clock=lambda: now[0])
    progress.expect(4)
    for seconds, status in ((1.0, "ok"), (10.0, "download_failed"), (12.0, "ok")):
        now[0] = seconds
        progress.finished(record(status))
    assert lines == ["fetched 1 of 4 files, 4.0 MB, 0.4 MB/s, 1 failed"]
    now[0] = 16.0
    progress.finished(record())
    assert lines[1:] == ["fetched 3 of 4 files, 8.0 MB, 0.5 MB/s, 1 failed"]


def test_more_transfers_than_expected_are_counted():
    lines = []
    progress = Progress(lines.append, every_s=0.0)
    progress.finished(record())
    assert lines[0].startswith("fetched 1 of 1 files")
