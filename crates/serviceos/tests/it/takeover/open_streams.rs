//! Streams that are open for longer than one takeover, with the libraries of their protocols: a WebSocket and a stream of gRPC.

use std::io::Write;

use testkit::{Mesh, Running, Script};

/// What they lead to.
pub(crate) struct Servers {
    websocket: Script,
    grpc: Script,
}

/// One of each, through the gateway.
pub(crate) struct OpenStreams([Script; 2]);

fn script(name: &str) -> String {
    format!("{}/tests/it/python/{name}", env!("CARGO_MANIFEST_DIR"))
}

impl Servers {
    /// They listen.
    pub(crate) fn start() -> Self {
        let start = |name| Script::start(&script(name), &[]);
        Self { websocket: start("websocket_server.py"), grpc: start("grpc_server.py") }
    }

    /// Adds them to what a mesh has.
    pub(crate) fn beside(&self, mesh: Mesh) -> Mesh {
        let check = "healthCheck: {interval: 1s, timeout: 1s}";
        let grpc = format!("protocol: grpc, {check}, routes: [{{match: {{path: '/test.Echo/{{method}}'}}}}]");
        mesh.endpoints("chat", &[self.websocket.address()]).endpoints_with(
            "echo",
            &[self.grpc.address()],
            &grpc,
        )
    }
}

impl OpenStreams {
    /// Opens both.
    pub(crate) fn open(mesh: &Running) -> Self {
        let url = format!("ws://{}/chat/room", mesh.gateway);
        let mut opened = [
            Script::start(&script("websocket_steps.py"), &[&url, &mesh.key]),
            Script::start(&script("grpc_steps.py"), &[&mesh.gateway.to_string(), &mesh.key]),
        ];
        for stream in &mut opened {
            assert_eq!(stream.line(), "open");
        }
        Self(opened)
    }

    /// Sends a word over each, which comes back.
    pub(crate) fn echo(&mut self, word: &str) {
        for stream in &mut self.0 {
            writeln!(stream.input(), "{word}").unwrap();
        }
        let [websocket, grpc] = &mut self.0;
        assert_eq!((websocket.line(), grpc.line()), (word.into(), format!("echo:{word}")));
    }

    /// Closes both as their protocols want it.
    pub(crate) fn close(mut self) {
        for stream in &mut self.0 {
            stream.input().write_all(b"\n").unwrap();
        }
        let [websocket, grpc] = &mut self.0;
        assert_eq!((websocket.line(), grpc.line()), ("4000".into(), "0 OK".into()));
    }
}
