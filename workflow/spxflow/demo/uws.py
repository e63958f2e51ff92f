"""Asynchronous jobs: the Universal Worker Service pattern, as much of it as TAP clients use."""

from __future__ import annotations

import datetime
import secrets
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from xml.sax.saxutils import escape, quoteattr

from spxflow.demo.web import RefusalError, Request, Response, error_page, xml

_LONGEST_WAIT_S = 60.0
_FIXED = {"quote": "", "owner": "", "executionduration": "0", "destruction": ""}  # resources that no job changes
_FINISHED = ("COMPLETED", "ERROR", "ABORTED")
_NAMESPACES = (
    'xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" version="1.1"'
)


class JobError(Exception):
    """The work cannot be done; carries the message and the error document."""

    def __init__(self, message: str, document: Response) -> None:
        super().__init__(message)
        self.document = document


class Job:
    """One job, from its parameters to its result."""

    def __init__(self, request: Request) -> None:
        self.id = secrets.token_hex(8)
        self.request = request
        self.phase = "PENDING"
        self.created = datetime.datetime.now(datetime.UTC)
        self.outcome: Response | None = None
        self.message = ""
        self._changed = threading.Condition()

    def enter(self, phase: str) -> None:
        with self._changed:
            if self.phase not in _FINISHED:
                self.phase = phase
                self._changed.notify_all()

    def run(self, work: Callable[[Request], Response]) -> None:
        """Do the work; what it raises is the job's error."""
        self.enter("EXECUTING")
        try:
            self.outcome = work(self.request)
        except JobError as error:
            self.outcome, self.message = error.document, str(error)
        except Exception:
            traceback.print_exc()
            self.message = "the local archive failed; see its standard error"
            self.outcome = error_page(500, self.message)
        self.enter("ERROR" if self.message else "COMPLETED")

    def wait(self, seconds: float) -> None:
        """Until the phase changes, at most so long; a job at rest does not change by waiting."""
        with self._changed:
            phase = self.phase
            deadline = time.monotonic() + seconds
            while self.phase == phase and phase in ("QUEUED", "EXECUTING") and time.monotonic() < deadline:
                self._changed.wait(deadline - time.monotonic())

    def document(self) -> Response:
        """The job's description, with the elements that a client or the schema wants."""
        address = f"{self.request.own_url}/TAP/async/{self.id}"
        parameters = "".join(
            f"<uws:parameter id={quoteattr(name.lower())}>{escape(value)}</uws:parameter>"
            for name, values in self.request.parameters.items()
            for value in values
        )
        results = error = ""
        if self.phase == "COMPLETED":
            results = f'<uws:result id="result" xlink:type="simple" xlink:href="{address}/results/result"/>'
        if self.phase == "ERROR":
            message = f"<uws:message>{escape(self.message)}</uws:message>"
            error = f'<uws:errorSummary type="fatal" hasDetail="true">{message}</uws:errorSummary>'
        return xml(
            f'<uws:job {_NAMESPACES}><uws:jobId>{self.id}</uws:jobId><uws:ownerId xsi:nil="true"/>'
            f"<uws:phase>{self.phase}</uws:phase><uws:creationTime>{self.created:%Y-%m-%dT%H:%M:%SZ}</uws:creationTime>"
            '<uws:startTime xsi:nil="true"/><uws:endTime xsi:nil="true"/>'
            '<uws:executionDuration>0</uws:executionDuration><uws:destruction xsi:nil="true"/>'
            f"<uws:parameters>{parameters}</uws:parameters><uws:results>{results}</uws:results>{error}</uws:job>"
        )


class Jobs:
    """All jobs of a service whose work is one function of the request."""

    def __init__(self, work: Callable[[Request], Response]) -> None:
        self._work = work
        self._jobs: dict[str, Job] = {}

    def answer(self, request: Request, rest: str) -> Response:
        """Answer a request for ``/TAP/async`` + ``rest``."""
        if not rest.strip("/"):
            return self._create(request) if request.method == "POST" else self._list(request)
        job_id, _, resource = rest.strip("/").partition("/")
        job = self._jobs.get(job_id)
        if job is None:
            raise RefusalError(404, f"no job {job_id}")
        if request.method == "DELETE" or request.get("ACTION").upper() == "DELETE":
            job.enter("ABORTED")
            del self._jobs[job_id]
            return _see_other(request, "")
        if request.method == "POST":
            return self._change(job, request)
        if request.get("WAIT"):
            try:
                seconds = int(request.get("WAIT"))
            except ValueError:
                raise RefusalError(400, "WAIT takes a number of seconds") from None
            job.wait(_LONGEST_WAIT_S if seconds < 0 else min(seconds, _LONGEST_WAIT_S))
        return self._show(job, resource)

    def _create(self, request: Request) -> Response:
        job = Job(request)
        self._jobs[job.id] = job
        return self._change(job, request)

    def _change(self, job: Job, request: Request) -> Response:
        phase = request.get("PHASE").upper()
        if phase == "RUN" and job.phase == "PENDING":
            job.enter("QUEUED")
            threading.Thread(target=job.run, args=(self._work,), daemon=True).start()
        elif phase == "ABORT":
            job.enter("ABORTED")
        elif phase not in ("", "RUN"):
            raise RefusalError(400, "PHASE takes RUN or ABORT")
        elif job.phase == "PENDING":
            job.request = replace(job.request, parameters={**job.request.parameters, **request.parameters})
        return _see_other(request, f"/{job.id}")

    def _list(self, request: Request) -> Response:
        entries = "".join(
            f'<uws:jobref id="{job.id}" xlink:href="{request.own_url}/TAP/async/{job.id}">'
            f"<uws:phase>{job.phase}</uws:phase></uws:jobref>"
            for job in list(self._jobs.values())
        )
        return xml(f"<uws:jobs {_NAMESPACES}>{entries}</uws:jobs>")

    @staticmethod
    def _show(job: Job, resource: str) -> Response:
        if resource in _FIXED:
            return Response(_FIXED[resource].encode())
        if resource == "phase":
            return Response(job.phase.encode())
        if resource in ("", "parameters", "results"):
            return job.document()
        outcome_phase = {"results/result": "COMPLETED", "error": "ERROR"}.get(resource)
        if outcome_phase == job.phase and job.outcome is not None:
            return job.outcome
        raise RefusalError(404, f"job {job.id} has no {resource[:40]}")


def _see_other(request: Request, rest: str) -> Response:
    return Response(status=303, headers={"Location": f"{request.own_url}/TAP/async{rest}"})
