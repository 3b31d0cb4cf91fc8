"""A W&B server with the operations that its client uses, and faults for it."""

import gzip
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server:
    """Keep what clients send.

    Attributes:
        runs: by id, the fields of the run and, as they arrived, its `history`, `summary` and `exitcode`.
        files: by `run/path`, contents.
        views: the specs of saved workspaces.
        sweeps: by id, the configs of sweeps, as `wandb sweep` sends them.
        trials: (run id, {parameter: value}) that the next heartbeats of an agent are told to run.
        fault: None, or what answers instead: a status code, or a number of seconds (a float) to wait.
        fault_after: the operation after which `fault` begins; None: at once.
    """

    def __init__(self, url):
        self.url = url
        self.runs, self.files, self.views, self.asked = {}, {}, [], []
        self.sweeps, self.trials = {}, []
        self.fault, self.fault_after, self.faulty = None, None, False
        self.released = threading.Event()  # ends all waiting

    def answer(self, method, path, body):
        """Return the status code and the content of an answer."""
        operation = path.rsplit("/", 1)[-1]
        if path == "/graphql" and method == "POST":
            operation = re.search(r"(?:query|mutation)\s+(\w+)", json.loads(body)["query"])[1]
        self.asked.append(operation)
        if self.fault is not None and (self.faulty or self.fault_after is None):
            if isinstance(self.fault, int):
                return self.fault, {"errors": [{"message": "out of order"}]}
            self.released.wait(self.fault)
        if method == "PUT":
            self.files[path.removeprefix("/upload/")] = body
            content = {}
        elif operation == "file_stream":
            content = self._stream(path.split("/")[-2], json.loads(body))
        elif path == "/graphql" and method == "POST":
            variables = json.loads(body).get("variables") or {}
            content = {"data": getattr(self, f"_{operation}", lambda variables: {})(variables)}
        else:
            content = {}
        self.faulty = self.faulty or operation == self.fault_after
        return 200, content

    def _stream(self, name, sent):
        run = self.runs[name]
        for file, part in sent.get("files", {}).items():
            lines = [json.loads(line) for line in part["content"]] if file.endswith("l") else None
            if "history" in file:
                run["history"][part["offset"] : part["offset"] + len(lines)] = lines
            elif "summary" in file:
                run["summary"] = json.loads(part["content"][-1])
        if "exitcode" in sent:
            run["exitcode"] = sent["exitcode"]
        return {"exitcode": None, "limits": {}}

    def _Viewer(self, variables):
        user = {"id": "u", "entity": "me", "username": "me", "name": "me", "email": "me@here", "flags": "{}"}
        return {"viewer": {**user, "teams": {"edges": []}}}

    _GetDefaultEntity = _Viewer

    def _RunResumeStatus(self, variables):
        project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "me"}}
        name = variables["name"]
        if name not in self.runs:
            return {"model": {**project, "bucket": None}}
        run = self.runs[name]
        counts = {"logLineCount": 0, "eventsLineCount": 0, "historyLineCount": len(run["history"])}
        tail = {
            "eventsTail": "[]",
            "historyTail": json.dumps([json.dumps(row) for row in run["history"][-1:]]),
        }
        state = {
            "summaryMetrics": json.dumps(run["summary"]),
            "config": run["config"],
            "wandbConfig": '{"t": 1}',
        }
        return {
            "model": {**project, "bucket": {"id": name, "name": name, "tags": [], **counts, **tail, **state}}
        }

    def _UpsertBucket(self, variables):
        name = variables["name"]
        inserted = name not in self.runs
        run = self.runs.setdefault(name, {"history": [], "summary": {}})
        run.update({key: value for key, value in variables.items() if value is not None})
        project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "me"}}
        bucket = {"id": name, "name": name, "displayName": name, "config": run["config"], "project": project}
        bucket["historyLineCount"] = len(run["history"])
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateRunFiles(self, variables):
        files = [
            {"name": name, "uploadUrl": f"{self.url}/upload/{variables['run']}/{name}"}
            for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": files}}

    def _ArtifactType(self, variables):
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, variables):
        sequence = {"id": "s", "latestArtifact": {"id": "a", "versionIndex": 0}}
        artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": sequence}  # nothing left to upload
        return {"createArtifact": {"artifact": artifact}}

    def _UpsertSweep(self, variables):
        self.sweeps["swept"] = variables["config"]
        project = {"id": "p", "name": variables["projectName"], "entity": {"id": "e", "name": "me"}}
        sweep = {"id": "i", "name": "swept", "project": project}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _SweepWithRuns(self, variables):
        sweep = {"id": "i", "name": variables["sweep"], "config": self.sweeps[variables["sweep"]]}
        return {"project": {"sweep": {**sweep, "runs": {"edges": []}}}}

    def _CreateAgent(self, variables):
        return {"createAgent": {"agent": {"id": "a"}}}

    def _Heartbeat(self, variables):
        running = json.loads(variables["runState"])
        commands = [] if running else [{"type": "exit"}]
        if self.trials and not running:
            id, parameters = self.trials.pop(0)
            args = {name: {"value": value} for name, value in parameters.items()}
            commands = [{"type": "run", "run_id": id, "program": "x", "args": args}]
        return {"agentHeartbeat": {"agent": {"id": "a"}, "commands": json.dumps(commands)}}

    def _UpsertView2(self, variables):
        self.views.append({**variables, "spec": json.loads(variables["spec"])})
        return {"upsertView": {"view": {"id": "v", "name": variables["name"]}, "inserted": True}}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Do nothing: clients may hang up."""


@contextmanager
def serving():
    """Run a server that listens at `url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

        def reply(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            code, content = server.answer(self.command, self.path, body)
            text = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = reply

    listener = _Listener(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{listener.server_address[1]}")
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.released.set()
        listener.shutdown()
        listener.server_close()
