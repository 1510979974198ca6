#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""serve.py DIR: two web servers on loopback for tests/unit/http.c, good and bad ones by the first part of the path:
/MODE/any/thing/FILE serves DIR/FILE in the manner of MODE. Prints both ports on one line and runs until its standard
input ends. /stats/KEY answers with a count of the requests or body bytes ("MODE.requests", "MODE.bytes").
HUGE stands for a file of 60 GB: DIR/FILE and zeros behind it."""
import collections
import http.server
import pathlib
import re
import socketserver
import sys
import threading
import time

HUGE = 60_000_000_000
TOKEN = "Bearer test-token"
stats = collections.Counter()
directory = pathlib.Path()
ports = []


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def send(self, status, headers=(), body=b"", mode=""):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.write(body, mode)

    def write(self, body, mode):
        try:
            for at in range(0, len(body), 65536):
                self.wfile.write(body[at:at + 65536])
                stats[mode + ".bytes"] += len(body[at:at + 65536])
        except OSError:
            self.close_connection = True

    def plain(self, status, text):
        self.send(status, [("Content-Length", str(len(text)))], text.encode())

    def window(self, data, total):
        """The part that the Range header asks for: first, last, bytes."""
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(match[1]), min(int(match[2]), total - 1)) if match else (0, total - 1)
        body = data[first:last + 1]
        return first, last, body + bytes(last + 1 - first - len(body))

    def partial(self, data, total, mode, etag='"one"', say=None, cut=None):
        """A 206. say changes (first, last, total, length) in the head, cut ends the body early."""
        first, last, body = self.window(data, total)
        if first >= total:
            self.send(416, [("Content-Range", f"bytes */{total}"), ("Content-Length", "0")])
            return
        if say:
            first, last, total, length = say(first, last, total, len(body))
        else:
            length = len(body)
        self.send(206, [("Content-Range", f"bytes {first}-{last}/{total}"), ("Content-Length", str(length)),
                        ("ETag", etag)], body[:cut], mode)
        if cut is not None:
            self.close_connection = True

    def chunked(self, headers, chunks, mode):
        self.send(206, [*headers, ("Transfer-Encoding", "chunked")])
        try:
            for chunk in chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
                stats[mode + ".bytes"] += len(chunk)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def endless(self, data, mode, length):
        """The whole huge file, whatever was asked: a client that wants a header must hang up."""
        self.send(200, length and [("Content-Length", str(HUGE)), ("ETag", '"one"')] or [("Connection", "close")],
                  data, mode)
        zeros = bytes(1 << 16)
        self.close_connection = True
        for _ in range(HUGE // len(zeros)):
            before = stats[mode + ".bytes"]
            self.write(zeros, mode)
            if stats[mode + ".bytes"] == before:
                return

    def redirect(self, to, mode):
        self.send(302, [("Location", to), ("Content-Length", "0")])

    def do_GET(self):
        _, mode, rest = self.path.split("/", 2)
        if mode == "stats":
            self.plain(200, str(stats[rest]))
            return
        stats[mode + ".requests"] += 1
        path = directory / rest.rsplit("/", 1)[-1]
        if not path.is_file():
            self.plain(404, "Entry not found")
            return
        data = path.read_bytes()
        total = len(data)
        here, other = ports if self.server.server_port == ports[0] else ports[::-1]
        token = self.headers.get("Authorization")
        if mode == "good":
            self.partial(data, total, mode)
        elif mode == "huge":
            self.partial(data, HUGE, mode)
        elif mode == "noranges":
            self.endless(data, mode, True)
        elif mode == "nolength":
            self.endless(data, mode, False)
        elif mode == "whole":
            self.send(200, [("Content-Length", str(total)), ("ETag", '"one"')], data, mode)
        elif mode == "nototal":
            self.partial(data, total, mode, say=lambda a, b, t, n: (a, b, "*", n))
        elif mode == "short":  # ranges of at most 1000 bytes, which is allowed
            first, last, body = self.window(data, total)
            last = min(last, first + 999)
            self.send(206, [("Content-Range", f"bytes {first}-{last}/{total}"), ("ETag", '"one"'),
                            ("Content-Length", str(last + 1 - first))], body[:1000], mode)
        elif mode == "liar-start":
            self.partial(data, total, mode, say=lambda a, b, t, n: (a + 1, b + 1, t + 1, n))
        elif mode == "liar-length":
            self.partial(data, total, mode, say=lambda a, b, t, n: (a, b, t, n + 10))
        elif mode == "liar-range":
            self.partial(data, total, mode, say=lambda a, b, t, n: (a, b + 100000, t + 100000, n))
        elif mode == "liar-total":
            self.partial(data, total, mode, say=lambda a, b, t, n: (a, b, t + a, n))
        elif mode == "liar-syntax":
            self.partial(data, total, mode, say=lambda a, b, t, n: (a, b, "many", n))
        elif mode == "liar-more":
            first, last, body = self.window(data, total)
            self.chunked([("Content-Range", f"bytes {first}-{last}/{total}")], [body, b"x" * 100], mode)
        elif mode == "liar-norange":
            self.send(206, [("Content-Length", "10")], b"0123456789")
        elif mode == "changing":
            self.partial(data, total, mode, etag=f'"{stats[mode + ".requests"]}"')
        elif mode == "truncating":  # half of what was asked for, then the line drops
            first, last, body = self.window(data, total)
            self.partial(data, total, mode, cut=(len(body) + 1) // 2)
        elif mode == "dropping":
            self.partial(data, total, mode, cut=0)
        elif mode == "flaky":
            if stats[mode + ".requests"] % 3:
                self.plain(503, "later")
            else:
                self.partial(data, total, mode)
        elif mode == "slow":
            first, last, body = self.window(data, total)
            self.send(206, [("Content-Range", f"bytes {first}-{last}/{total}"), ("Content-Length", str(len(body)))])
            for byte in body:
                self.write(bytes([byte]), mode)
                time.sleep(0.5)
        elif mode == "gated":  # the token opens the way to another origin, which must not see it
            if token != TOKEN:
                self.plain(401, "gated")
            else:
                self.redirect(f"http://127.0.0.1:{other}/target/{rest}", mode)
        elif mode == "renamed":  # the same origin, so the token goes along
            self.redirect(f"/needs-token/{rest}", mode)
        elif mode == "needs-token":
            self.partial(data, total, mode) if token == TOKEN else self.plain(401, "no token")
        elif mode == "hostname":  # another name of the same address and port is another origin
            self.redirect(f"http://localhost:{here}/target/{rest}", mode)
        elif mode == "target":
            stats["target.tokens"] += token is not None
            self.plain(500, "token leaked") if token else self.partial(data, total, mode)
        elif mode == "loop":
            self.redirect(f"/loop/{rest}", mode)
        elif mode == "to-file":
            self.redirect("file:///etc/passwd", mode)
        elif mode == "to-ftp":
            self.redirect("ftp://127.0.0.1/x", mode)
        elif mode == "nowhere":
            self.send(302, [("Content-Length", "0")])
        elif mode == "html":
            body = b"<!DOCTYPE html><html><body>please log in</body></html>" + bytes(100)
            self.send(200, [("Content-Length", str(len(body)))], body, mode)
        elif mode == "headers":  # a head without end
            try:
                self.wfile.write(b"HTTP/1.1 206 Partial Content\r\n")
                for i in range(100000):
                    self.wfile.write(b"X-%d: y\r\n" % i)
            except OSError:
                self.close_connection = True
        elif mode.isdigit():
            self.plain(int(mode), "no")
        else:
            self.plain(404, "no such mode")


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass  # a client that hangs up is what half of the tests are about


def main():
    global directory
    directory = pathlib.Path(sys.argv[1])
    for _ in range(2):
        server = Server(("127.0.0.1", 0), Handler)
        ports.append(server.server_port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(*ports, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
