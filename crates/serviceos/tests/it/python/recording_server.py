"""A server whose every execution can be seen: `PORT FILE` (a port of 0 lets the system choose; it is printed).

The body of a POST is written to the end of FILE before it is answered, so that what was executed is known of a server that
is killed, too.
"""

import http.server
import os
import sys
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer()

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        os.write(RECORD, body + b"\n")
        # What executing takes: whoever kills this server finds requests that are executed and not answered.
        time.sleep(0.005)
        self.answer()

    def answer(self):
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


PORT, FILE = sys.argv[1:]
RECORD = os.open(FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(PORT)), Handler)
server.daemon_threads = True
print(server.server_address[1], flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
