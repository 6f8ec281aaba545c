"""As much of the Hugging Face Hub as an upload of small files needs, on this machine."""

import base64
import json

from unreliable_server import Handler


class HubHandler(Handler):
    """Takes repositories and commits, and serves what was committed."""

    def do_POST(self):
        server = self.serves
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.requests.append((self.command, self.path, dict(self.headers)))
        self.close_connection = True
        if server.needs and self.headers.get("Authorization") != f"Bearer {server.needs}":
            return self.send_error(401)
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            owner = asked.get("organization", "me")
            return self._answer({"url": f"{server.address}/{owner}/{asked['name']}"})
        if self.path.endswith("/preupload/main"):
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self._answer({"files": files})
        if self.path.endswith("/commit/main"):
            return self._commit(body)
        return self._answer({})  # the check of the card's header

    def _commit(self, body: bytes) -> None:
        repository = self.path.removeprefix("/api/models/").removesuffix("/commit/main")
        for line in filter(None, body.splitlines()):
            entry = json.loads(line)
            if entry["key"] == "file":
                path = f"/{repository}/resolve/main/{entry['value']['path']}"
                self.serves.files[path] = base64.b64decode(entry["value"]["content"])
        url = f"{self.serves.address}/{repository}/commit/{'0' * 40}"
        self._answer({"commitUrl": url, "commitOid": "0" * 40, "success": True})

    def _answer(self, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
