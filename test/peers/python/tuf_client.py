"""One visit of python-tuf to a TUF repository.

    tuf_client.py STORE ROOT URL TARGET...

STORE is the client's own folder, kept between visits; ROOT the file of the pinned root; below URL are metadata/ and
targets/. Every TARGET is looked up and downloaded. Prints one JSON object with `verdict` (accept, refuse, or error when
the world failed and nothing was decided), `error` and the SHA-256 of each downloaded target; the exit code is 0, 1 or 3.
Everything about the client is as python-tuf has it by default.
"""

import hashlib
import json
import os
import sys

from tuf.api.exceptions import DownloadError, DownloadLengthMismatchError
from tuf.ngclient import Updater


def visit(store, root, url, targets):
    metadata, downloads = os.path.join(store, "metadata"), os.path.join(store, "downloads")
    for folder in (metadata, downloads):
        os.makedirs(folder, exist_ok=True)
    with open(root, "rb") as file:
        pinned = file.read()
    updater = Updater(metadata, f"{url}/metadata", downloads, f"{url}/targets", bootstrap=pinned)
    updater.refresh()
    hashes = {}
    for target in targets:
        info = updater.get_targetinfo(target)
        if info is None:
            raise LookupError(f"{target} is not listed")
        with open(updater.download_target(info), "rb") as file:
            hashes[target] = hashlib.sha256(file.read()).hexdigest()
    return hashes


def main(arguments):
    if len(arguments) < 3:
        return 2, {"verdict": "error", "error": "usage: tuf_client.py STORE ROOT URL TARGET..."}
    store, root, url, *targets = arguments
    try:
        return 0, {"verdict": "accept", "targets": visit(store, root, url, targets)}
    except Exception as error:  # whatever stops the client is its answer
        failed = isinstance(error, DownloadError) and not isinstance(error, DownloadLengthMismatchError)
        text = " <- ".join(f"{type(e).__name__}: {e}" for e in chain(error))
        return (3, {"verdict": "error", "error": text}) if failed else (1, {"verdict": "refuse", "error": text})


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__


if __name__ == "__main__":
    code, result = main(sys.argv[1:])
    print(json.dumps(result))
    sys.exit(code)
