"""What went wrong with one try to have a file, and whether another may help."""

from __future__ import annotations

DOWNLOAD_FAILED = "download_failed"
INVALID_FILE = "invalid_file"


class TransferFault(Exception):  # noqa: N818 - the name says what it is
    """One try that did not bring a file.

    Attributes
    ----------
    reason
        For a person.
    status
        What the record says when it stays so: ``download_failed`` or ``invalid_file``.
    passes
        Whether the fault may be gone at the next try.
    wait_s
        The wait the archive asks for, s.
    fingerprint
        Digest of a whole answer that cannot be used; the same one again and again is the archive's last word.
    """

    def __init__(
        self,
        reason: str,
        status: str = DOWNLOAD_FAILED,
        passes: bool = True,
        wait_s: float | None = None,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.passes = passes
        self.wait_s = wait_s
        self.fingerprint = fingerprint
