"""One file over HTTP: as it lies where the client takes gzip, else unpacked; by ranges (RFC 9110).

The ranges, `ETag` and `If-Range` are those of the packed file: unpacked, it is a stream of a length
that is not known before its end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from exports.landing.delivery import file_chunks
from exports.landing.ndjson import unpack

NDJSON: Final = "application/fhir+ndjson"


def file_response(request: Request, path: Path) -> Response:
    """The answer to a request for the gzip NDJSON file at `path`."""
    if "gzip" in request.headers.get("accept-encoding", ""):
        return FileResponse(path, media_type=NDJSON, headers={"Content-Encoding": "gzip"})
    return StreamingResponse(unpack(file_chunks(path)), media_type=NDJSON)
