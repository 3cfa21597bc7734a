"""A stand-in for the HTTP API of the Hugging Face hub, of what pushing and fetching take; on 127.0.0.1."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_standin"


@dataclass
class Repository:
    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def commit(self, files: dict[str, bytes]) -> str:
        before = self.commits[self.head] if self.commits else {}
        number = hashlib.sha1(str(len(self.commits)).encode(), usedforsecurity=False).hexdigest()
        self.commits[number] = {**before, **files}
        return number


@dataclass
class Hub:
    """What it holds, by name, and what was asked of it."""

    endpoint: str
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """The files whose content was asked for."""
        return [
            path.partition("/resolve/")[2].partition("/")[2]
            for kind, path in self.requests
            if kind == "GET" and "/resolve/" in path
        ]


@contextmanager
def running_hub() -> Iterator[Hub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.hub = hub
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> Hub:
        return self.server.hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        path = unquote(self.path.partition("?")[0])
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.hub.requests.append((self.command, path))
        for pattern, answer in ROUTES.items():
            kind, _, route = pattern.partition(" ")
            if self.command in kind.split("|") and (found := re.fullmatch(route, path)):
                answer(self, body, *found.groups())
                return
        self._send(404, {"error": f"the stand-in knows no {self.command} {path}"})

    @property
    def _known(self) -> bool:
        return self.headers.get("authorization") == f"Bearer {TOKEN}"

    def _send(self, status: int, value: Any, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _found(self, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._known):
            # The hub does not say whether something is there that is not shown.
            self._send(401 if not self._known else 404, {}, X_Error_Code="RepoNotFound")
            return None
        commit = repository.head if revision == "main" else revision
        if commit not in repository.commits:
            self._send(404, {}, X_Error_Code="RevisionNotFound", X_Error_Message=f"Invalid rev id: {revision}")
            return None
        return repository, commit

    def _create(self, body: bytes) -> None:
        if not self._known:
            self._send(401, {"error": "Invalid username or password."})
            return
        values = json.loads(body)
        name = f"{values.get('organization') or 'me'}/{values['name']}"
        private = values.get("private") or values.get("visibility") == "private"
        there = name in self.hub.repositories
        self.hub.repositories.setdefault(name, Repository(private=private))
        self._send(409 if there else 200, {"url": f"{self.hub.endpoint}/{name}", "name": name})

    def _modes(self, body: bytes, *_: str) -> None:
        files = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]
        ]
        self._send(200, {"files": files})

    def _commit(self, body: bytes, name: str, _: str) -> None:
        values = [json.loads(line) for line in body.splitlines()]
        files = {v["value"]["path"]: base64.b64decode(v["value"]["content"]) for v in values if v["key"] == "file"}
        number = self.hub.repositories[name].commit(files)
        self._send(
            200, {"success": True, "commitOid": number, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{number}"}
        )

    def _yaml(self, body: bytes) -> None:
        self._send(200, {"errors": [], "warnings": []})

    def _info(self, _: bytes, name: str, revision: str | None) -> None:
        if (found := self._found(name, revision or "main")) is None:
            return
        repository, commit = found
        siblings = [{"rfilename": file, "size": len(content)} for file, content in repository.commits[commit].items()]
        self._send(200, {"id": name, "sha": commit, "private": repository.private, "siblings": siblings, "tags": []})

    def _tree(self, _: bytes, name: str, revision: str) -> None:
        if (found := self._found(name, revision)) is None:
            return
        repository, commit = found
        files = repository.commits[commit].items()
        self._send(
            200, [{"type": "file", "path": file, "size": len(content), "oid": _oid(content)} for file, content in files]
        )

    def _file(self, _: bytes, name: str, revision: str, file: str) -> None:
        if (found := self._found(name, revision)) is None:
            return
        repository, commit = found
        content = repository.commits[commit].get(file)
        if content is None:
            self._send(404, {}, X_Error_Code="EntryNotFound")
            return
        self._send(200, content, ETag=f'"{_oid(content)}"', X_Repo_Commit=commit)


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


NAME = r"([\w.-]+/[\w.-]+)"
ROUTES = {
    "POST /api/repos/create": _Handler._create,
    "POST /api/validate-yaml": _Handler._yaml,
    f"POST /api/models/{NAME}/preupload/([^/]+)": _Handler._modes,
    f"POST /api/models/{NAME}/commit/([^/]+)": _Handler._commit,
    f"GET /api/models/{NAME}/tree/([^/]+)": _Handler._tree,
    f"GET /api/models/{NAME}(?:/revision/([^/]+))?": _Handler._info,
    f"GET|HEAD /{NAME}/resolve/([^/]+)/(.+)": _Handler._file,
}
