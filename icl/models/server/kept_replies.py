"""Replies on disk: one SQLite file that any number of processes and threads share."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from icl.errors import IclError
from icl.version import __version__

_FORMAT = 1  # raised when requests are made or replies are kept in another way than before


def request_key(endpoint: str, model: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """Hash all that decides a reply.

    Args:
        endpoint: the full address that the request goes to.
        model: name, revision where it is known, and what the server says of the model.
        body: the whole request: prompt and decoding parameters.
    """
    parts = [_FORMAT, __version__, endpoint, model, body]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class ReplyCache:
    """Replies by `request_key`: each is there whole or not at all, also after a kill.

    Requests themselves are not kept, and a key to the server is in neither.

    Raises:
        IclError: from every method, when the file is damaged or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Replies hold the user's texts: on a shared machine they are the user's alone.
            path.touch(mode=0o600, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60, check_same_thread=False)
            with self._db:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply BLOB NOT NULL)"
                )
        except (OSError, sqlite3.Error) as error:
            raise self._fault(error) from error

    def get(self, key: str, usable: Callable[[Any], bool] = lambda reply: True) -> Any:
        """Return the JSON value kept under a key, or None; one that is of no use is dropped."""
        try:
            with self._lock:
                row = self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
            reply = None if row is None else _unpacked(row[0])
            if row is None or (reply is not None and usable(reply)):
                return reply
            with self._lock, self._db:
                # This very one: another process may have put a better one in its place.
                self._db.execute("DELETE FROM replies WHERE key = ? AND reply = ?", (key, row[0]))
            return None
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def put(self, key: str, reply: Any) -> None:
        """Keep a JSON value; the first one stays where two processes bring one."""
        text = json.dumps(reply, ensure_ascii=False).encode(errors="surrogatepass")
        packed = zlib.compress(text, level=3)
        try:
            with self._lock, self._db:
                self._db.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, packed))
        except sqlite3.Error as error:
            raise self._fault(error) from error

    def _fault(self, error: Exception) -> IclError:
        return IclError(
            f"The server's replies cannot be kept in {self._path} ({error}); remove the file, free"
            " some space, or set `cache: false` under `model.server`."
        )


def _unpacked(packed: Any) -> Any:
    """Return the JSON value of a row, or None where it cannot be read."""
    try:
        return json.loads(zlib.decompress(packed))
    except (zlib.error, ValueError, TypeError, RecursionError):
        return None
